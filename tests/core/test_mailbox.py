"""The mailbox: newest value per key, nothing lost, nothing waits that need not."""

import asyncio

import pytest

from portwatch.mailbox import Mailbox

pytestmark = pytest.mark.asyncio


async def test_newest_value_of_a_key_wins() -> None:
    mailbox: Mailbox[str, int] = Mailbox()

    for value in range(1000):
        mailbox.put("p1", value)

    assert len(mailbox) == 1
    assert await mailbox.take() == {"p1": 999}


async def test_all_keys_are_taken_at_once_in_the_order_of_their_first_put() -> None:
    mailbox: Mailbox[str, int] = Mailbox()

    mailbox.put("p2", 1)
    mailbox.put("p1", 1)
    mailbox.put("p2", 2)

    assert list((await mailbox.take()).items()) == [("p2", 2), ("p1", 1)]
    assert len(mailbox) == 0


async def test_fold_joins_the_old_value_and_the_new() -> None:
    mailbox: Mailbox[str, set[int]] = Mailbox(fold=lambda old, new: old | new)

    mailbox.put("blue", {1})
    mailbox.put("blue", {2})

    assert mailbox.take_now() == {"blue": {1, 2}}


async def test_fold_does_not_see_what_was_taken() -> None:
    mailbox: Mailbox[str, set[int]] = Mailbox(fold=lambda old, new: old | new)
    mailbox.put("blue", {1})
    await mailbox.take()

    mailbox.put("blue", {2})

    assert await mailbox.take() == {"blue": {2}}


async def test_a_fold_that_fails_keeps_the_old_value() -> None:
    mailbox: Mailbox[str, int] = Mailbox(fold=lambda old, new: old // new)
    mailbox.put("p1", 1)

    with pytest.raises(ZeroDivisionError):
        mailbox.put("p1", 0)

    assert mailbox.take_now() == {"p1": 1}


async def test_take_waits_for_the_first_value() -> None:
    mailbox: Mailbox[str, int] = Mailbox()
    taking = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    assert not taking.done()

    mailbox.put("p1", 1)

    assert await taking == {"p1": 1}


async def test_taking_now_takes_nothing_from_an_empty_mailbox() -> None:
    assert Mailbox[str, int]().take_now() == {}


async def test_take_waits_on_when_somebody_took_before_it_woke() -> None:
    mailbox: Mailbox[str, int] = Mailbox()
    taking = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    mailbox.put("p1", 1)
    assert mailbox.take_now() == {"p1": 1}
    await asyncio.sleep(0)
    assert not taking.done()

    mailbox.put("p1", 2)

    assert await taking == {"p1": 2}


async def test_take_waits_when_all_that_was_put_was_dropped() -> None:
    mailbox: Mailbox[str, int] = Mailbox()
    mailbox.put("p1", 1)
    mailbox.drop("p1")
    mailbox.drop("never put")

    taking = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    mailbox.put("p2", 2)

    assert await taking == {"p2": 2}


async def test_only_the_oldest_are_taken_when_asked_for_so_many() -> None:
    mailbox: Mailbox[str, int] = Mailbox()
    for key in ("p1", "p2", "p3"):
        mailbox.put(key, 1)

    assert list(await mailbox.take(2)) == ["p1", "p2"]
    assert list(await mailbox.take(2)) == ["p3"]
    assert mailbox.take_now(2) == {}


@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_take_loses_nothing(turns: int) -> None:
    mailbox: Mailbox[str, int] = Mailbox()
    taking = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    mailbox.put("p1", 1)
    for _ in range(turns):
        await asyncio.sleep(0)

    taking.cancel()
    taken = (await asyncio.gather(taking, return_exceptions=True))[0]

    if isinstance(taken, asyncio.CancelledError):
        taken = await mailbox.take()
    assert taken == {"p1": 1}
    assert len(mailbox) == 0
