"""What deploy/image/inventory writes down of an environment, here this one: CycloneDX by its schema, and licences."""

import json
import sysconfig
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SCRIPT = Path(__file__).parents[2] / "deploy" / "image" / "inventory"
HERE = sysconfig.get_path("purelib")


@pytest.fixture(scope="module")
def inventory() -> ModuleType:
    loader = SourceFileLoader("inventory", str(SCRIPT))
    spec = spec_from_loader("inventory", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def written(inventory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(inventory, "PLACE", HERE)
    inventory.main(tmp_path)
    return tmp_path


def test_the_inventory_is_cyclonedx_by_the_strict_schema(written: Path) -> None:
    text = (written / "sbom.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_5)

    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"type": "library"', '"type": "book"')) is not None


def test_it_names_what_is_installed_once_with_its_licence(written: Path) -> None:
    components = json.loads((written / "sbom.cdx.json").read_text())["components"]
    purls = [component["purl"] for component in components]

    assert len(purls) == len(set(purls))
    for name in ("msgspec", "aiomqtt", "portwatch"):
        assert any(purl.startswith(f"pkg:pypi/{name}@") for purl in purls), name
    assert any(purl.startswith("pkg:deb/debian/openvswitch-common@") for purl in purls)
    assert "Apache License" in (written / "THIRD-PARTY-LICENCES").read_text()
