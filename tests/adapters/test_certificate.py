"""Certificates as openssl makes them, and what is none."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch import certificate


def a_certificate(folder: Path, subject: str, *options: str) -> Path:
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "key.pem")
    command = ("openssl", "req", "-x509", *new_key, "-subj", subject, "-utf8", *options, "-out", "certificate.pem")
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem"


def end_by_openssl(path: Path) -> datetime:
    said = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-enddate"], check=True, capture_output=True, text=True
    ).stdout
    return datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("subject", "name"),
    [("/CN=hv1", "hv1"), ("/O=rack 7/OU=a/CN=hv1.example/C=CH", "hv1.example"), ("/CN=höst", "höst"), ("/O=x", None)],
)
@pytest.mark.parametrize("days", ["2", "12000"])
def test_name_and_end_are_those_that_openssl_tells(tmp_path: Path, subject: str, name: str | None, days: str) -> None:
    path = a_certificate(tmp_path, subject, "-days", days)

    assert certificate.read(path) == certificate.Certificate(name, end_by_openssl(path))


def test_of_a_chain_the_first_counts(tmp_path: Path) -> None:
    leaf = a_certificate(tmp_path, "/CN=leaf").read_text()
    above = a_certificate(tmp_path, "/CN=above").read_text()
    chain = tmp_path / "chain.pem"
    chain.write_text(f"Subject: something for people\n{leaf}{above}")

    assert certificate.read(chain).common_name == "leaf"


def test_a_file_that_is_not_there_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        certificate.read(tmp_path / "absent.pem")


def test_a_key_is_no_certificate(tmp_path: Path) -> None:
    a_certificate(tmp_path, "/CN=hv1")

    with pytest.raises(ValueError, match=r"key\.pem holds no certificate"):
        certificate.read(tmp_path / "key.pem")


@given(cut=st.integers(0, 500), noise=st.binary(max_size=4))
def test_a_damaged_one_is_a_valueerror_or_still_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    path = _GOOD.setdefault("path", None) or a_certificate(tmp_path_factory.mktemp("good"), "/CN=hv1")
    _GOOD["path"] = path
    text = path.read_bytes()
    damaged = path.with_name("damaged.pem")
    damaged.write_bytes(text[:cut] + noise + text[cut + len(noise) :])

    try:
        certificate.read(damaged)
    except ValueError as error:
        assert "damaged.pem holds no certificate" in str(error)


_GOOD: dict[str, Path | None] = {}
