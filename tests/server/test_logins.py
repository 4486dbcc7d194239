"""Failed logins are slowed down by their source, and other clients' failures do not lock the owner out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import CredentialInvalid, Overloaded, RateLimited
from interlock.server.guard.passwords.hash_queue import Ended
from interlock.server.guard.throttling.limits import RateLimits
from interlock.server.guard.throttling.logins import Client, LoginLimits
from interlock.server.guard.throttling.pseudonyms import Pseudonyms
from interlock.server.settings import Settings
from tests.support.accounts import owner
from tests.support.clock import HandClock

EMAIL = "ada@example.org"
HOME = Client("192.0.2.1")
NAMES = Pseudonyms(lambda: b"s" * 32)


def logins(clock: HandClock | None = None, **limits: str) -> LoginLimits:
    defaults = {"limit_login_address": "6/10m", "limit_login_client": "3/15m", "limit_login_account": "5/1h"}
    return LoginLimits(Settings(**{**defaults, **limits}), clock or HandClock(), b"salt", NAMES)  # type: ignore[arg-type]  # all are text


def fails(guard: LoginLimits, client: Client, email: str = EMAIL) -> bool:
    """Attempt with a wrong password. Return whether it was checked (True) or refused without a check."""
    try:
        with guard.attempt(email, client) as attempt:
            attempt.count()(counts=True)
            raise CredentialInvalid("email or password is wrong")  # noqa: TRY301  # the effect of a wrong password
    except CredentialInvalid:
        return True
    except RateLimited:
        return False


def succeeds(guard: LoginLimits, client: Client, email: str = EMAIL, *, set_at_ms: int = 1) -> bool:
    """Attempt with the right password, set at ``set_at_ms``. Return whether it was checked."""
    try:
        with guard.attempt(email, client) as attempt:
            attempt.count()(counts=False)
    except RateLimited:
        return False
    guard.remember(owner("acc_x", email, at_ms=set_at_ms), client.address)
    return True


def begin(guard: LoginLimits) -> Ended:
    """Begin a hash. Return the callback for its end."""
    with guard.attempt(EMAIL, HOME) as attempt:
        return attempt.count()


def count(attempt: Callable[[], bool]) -> int:
    """Return how often in a row it is checked."""
    tries = 0
    while attempt():
        tries += 1
        assert tries < 1000
    return tries


def stranger(number: int) -> Client:
    return Client(f"198.51.100.{number}")


@pytest.mark.asvs("6.3.1")
def test_wrong_passwords_for_one_account_from_one_address_are_few() -> None:
    clock = HandClock()
    guard = logins(clock)
    assert count(lambda: fails(guard, HOME)) == 3
    assert not succeeds(guard, HOME), "nor is a right one looked at: who guesses can't see it"
    with pytest.raises(RateLimited) as refused, guard.attempt(EMAIL, HOME):
        raise AssertionError
    clock.advance(refused.value.retry_after_s * 1000)
    assert succeeds(guard, HOME)


@pytest.mark.asvs("6.3.1")
def test_wrong_passwords_for_many_accounts_from_one_address_are_few() -> None:
    guard = logins()
    numbers = iter(range(1000))
    assert count(lambda: fails(guard, HOME, f"user{next(numbers)}@example.org")) == 6
    assert fails(guard, stranger(1), "user7@example.org")


@pytest.mark.asvs("6.3.1")
def test_wrong_passwords_for_one_account_from_many_addresses_are_few() -> None:
    guard = logins()
    numbers = iter(range(1000))
    assert count(lambda: fails(guard, stranger(next(numbers)))) == 5
    assert fails(guard, stranger(200), "bob@example.org")


def test_every_spelling_of_an_email_address_counts_for_its_account() -> None:
    guard = logins()
    spellings = iter([EMAIL, "ADA@example.org", " Ada@Example.ORG ", "ada@EXAMPLE.org"])
    assert count(lambda: fails(guard, HOME, next(spellings))) == 3


@pytest.mark.asvs("6.1.1")
def test_strangers_failed_logins_do_not_lock_the_owner_out() -> None:
    guard = logins()
    device = Client("203.0.113.77", "its nonce")
    assert succeeds(guard, HOME)
    numbers = iter(range(1000))
    count(lambda: fails(guard, stranger(next(numbers))))
    assert not succeeds(guard, stranger(201)), "a place the account does not know"
    assert succeeds(guard, HOME), "an address it logged in from"
    assert succeeds(guard, device), "a device it logged in on, at whatever address"


@pytest.mark.asvs("6.1.1")
def test_an_attacker_at_the_owners_address_does_not_lock_the_device_out() -> None:
    guard = logins()
    assert succeeds(guard, HOME)
    device = Client(HOME.address, "its nonce")
    assert count(lambda: fails(guard, HOME)) == 3
    assert not succeeds(guard, HOME)
    assert succeeds(guard, device)


@pytest.mark.asvs("6.3.1")
def test_an_address_known_by_an_older_password_is_forgotten() -> None:
    guard = logins(limit_login_account="1/1h")
    for number in range(8):
        assert succeeds(guard, stranger(number))
    assert succeeds(guard, HOME, set_at_ms=2)
    assert fails(guard, stranger(100)), "what there is for strangers"
    assert not any(fails(guard, stranger(number)) for number in range(8))
    assert succeeds(guard, HOME, set_at_ms=2)
    # The older one was shown while it was being changed.
    guard.remember(owner("acc_x", EMAIL), stranger(7).address)
    assert not fails(guard, stranger(7))


def test_failures_at_other_accounts_do_not_shut_a_known_address() -> None:
    guard = logins()
    assert succeeds(guard, HOME)
    numbers = iter(range(1000))
    count(lambda: fails(guard, HOME, f"user{next(numbers)}@example.org"))
    assert succeeds(guard, HOME)


def test_a_device_that_fails_too_often_is_a_stranger() -> None:
    guard = logins()
    device = Client("203.0.113.77", "its nonce")
    assert count(lambda: fails(guard, device)) == 3 + 3, "what the device has, and then what its address has"


def test_an_unchecked_password_does_not_count() -> None:
    guard = logins()
    for _ in range(20):
        with pytest.raises(Overloaded), guard.attempt(EMAIL, HOME):
            raise Overloaded
    for _ in range(20):
        with pytest.raises(asyncio.CancelledError), guard.attempt(EMAIL, HOME):
            raise asyncio.CancelledError
    assert count(lambda: fails(guard, HOME)) == 3


def test_parallel_tries_cannot_overtake_the_count() -> None:
    guard = logins()
    begun = [begin(guard) for _ in range(3)]
    assert not fails(guard, HOME)
    for ended in begun:
        ended(counts=False)
    assert fails(guard, HOME), "those succeeded, and never counted"


def test_waiting_attempts_cannot_overtake_the_count() -> None:
    guard = logins()
    with ExitStack() as stack:
        *waiting, last = [stack.enter_context(guard.attempt(EMAIL, HOME)) for _ in range(10)]
        counted = [attempt.count() for attempt in waiting[:3]]
        for attempt in waiting[3:]:
            with pytest.raises(RateLimited):
                attempt.count()
        counted[0](counts=False)
        last.count()


def test_attempts_waiting_for_a_hash_lock_nobody_out() -> None:
    guard = logins()
    with ExitStack() as stack:
        waiting = [stack.enter_context(guard.attempt(EMAIL, HOME)) for _ in range(10)]
        assert succeeds(guard, HOME)
        for attempt in waiting:
            attempt.count()(counts=False)
        assert count(lambda: fails(guard, HOME)) == 3


def test_known_addresses_and_accounts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = logins(limit_login_account="1/1h")
    for number in range(9):
        assert succeeds(guard, stranger(number))
    assert fails(guard, stranger(100))
    assert not succeeds(guard, stranger(0)), "the oldest is forgotten"
    assert succeeds(guard, stranger(1))
    monkeypatch.setattr("interlock.server.guard.throttling.logins._ACCOUNTS", 1)
    assert succeeds(guard, HOME, "bob@example.org")
    assert not succeeds(guard, stranger(2)), "one account too many"


def test_each_account_has_one_pseudonym_in_the_log() -> None:
    assert NAMES.of_email("ada@straße.example") != NAMES.of_email("ada@strasse.example")
    assert len({NAMES.of_email(each) for each in (" Ada@Straße.example", "ada@xn--strae-oqa.example")}) == 1
    assert len({NAMES.of_email(each) for each in ("zo\u00eb@x.example", "zoe\u0308@x.example")}) == 1


@pytest.mark.asvs("16.3.1", "16.3.3", "16.2.5")
def test_failed_logins_are_logged_by_pseudonym() -> None:
    guard = logins(HandClock())
    with capture_logs() as lines:
        for _ in range(10):
            fails(guard, HOME)
    failed = [line for line in lines if line["event"] == "login.failed"]
    assert len(failed) == 3
    assert {(line["account"], line["address"], line["known"]) for line in failed} == {
        (NAMES.of_email(EMAIL), "192.0.2.1", False)
    }
    assert "ada" not in str(lines)
    limited = [line for line in lines if line["event"] == "traffic.limited"]
    assert [line["by"] for line in limited] == ["client"] * 7


def answer(guard: LoginLimits, client: Client, email: str) -> tuple[str, object]:
    """Return the answer to a wrong password."""
    try:
        with guard.attempt(email, client) as attempt:
            attempt.count()(counts=True)
            raise CredentialInvalid("email or password is wrong")  # noqa: TRY301  # the effect of a wrong password
    except CredentialInvalid as wrong:
        return "wrong", str(wrong)
    except RateLimited as limited:
        return "limited", limited.retry_after_s


@pytest.mark.parametrize("before", [0, 1, 5, 6, 7])
def test_wrong_passwords_do_not_reveal_who_uses_a_shared_address(before: int) -> None:
    """Whatever was tried there before, each next answer is the same, even for what the attempts themselves use up."""
    said = {}
    for name in ("of somebody here", "made up"):
        clock = HandClock()
        guard = logins(clock)
        if name == "of somebody here":
            assert succeeds(guard, HOME)
        for number in range(before):
            fails(guard, HOME, f"user{number}@example.org")
        told: list[object] = []
        for _ in range(12):
            told += [answer(guard, HOME, EMAIL) for _ in range(3)]
            told += [answer(guard, HOME, f"other{len(told)}@example.org"), answer(guard, stranger(len(told)), EMAIL)]
            clock.advance(200_000)
        said[name] = told
    assert said["of somebody here"] == said["made up"]


@pytest.mark.asvs("6.1.1")
def test_behind_a_refusal_a_known_address_has_few_attempts() -> None:
    guard = logins()
    assert succeeds(guard, HOME)
    numbers = iter(range(1000))
    count(lambda: fails(guard, HOME, f"user{next(numbers)}@example.org"))
    for _ in range(3):
        assert not fails(guard, HOME)
    assert not succeeds(guard, HOME), "not even the right one is looked at"


@pytest.mark.parametrize("error", [Overloaded(), RateLimited(7), TimeoutError()])
def test_behind_a_refusal_unchecked_passwords_get_the_same_answer(error: Exception) -> None:
    guard = logins()
    assert succeeds(guard, HOME)
    numbers = iter(range(1000))
    count(lambda: fails(guard, HOME, f"user{next(numbers)}@example.org"))
    limited = answer(guard, HOME, "nobody@example.org")
    for _ in range(10):
        with pytest.raises(RateLimited) as refused, guard.attempt(EMAIL, HOME):
            raise error
        assert ("limited", refused.value.retry_after_s) == limited
    assert succeeds(guard, HOME)


@pytest.mark.parametrize("name", ["of somebody here", "made up"])
def test_attempts_waiting_while_limits_run_out_get_the_same_refusal(name: str) -> None:
    """At a known address the password is checked behind the refusal, whatever the counters were on arrival."""
    guard = logins()
    if name == "of somebody here":
        assert succeeds(guard, HOME)
    wrong, right = guard.attempt(EMAIL, HOME), guard.attempt(EMAIL, HOME)
    with right as late:
        with pytest.raises(RateLimited) as refused, wrong as attempt:  # noqa: PT012  # the effect of a wrong password
            numbers = iter(range(1000))
            count(lambda: fails(guard, HOME, f"user{next(numbers)}@example.org"))
            attempt.count()(counts=True)
            raise CredentialInvalid("email or password is wrong")
        assert ("limited", refused.value.retry_after_s) == answer(guard, HOME, "nobody@example.org")
        if name == "of somebody here":
            late.count()(counts=False)


def test_only_known_devices_use_the_owners_hash_queue() -> None:
    """A reserved place in the queue would reveal who has logged in at a shared address."""
    guard = logins()
    assert succeeds(guard, HOME)
    with guard.attempt(EMAIL, HOME) as attempt:
        assert not attempt.requester.known
    with guard.attempt(EMAIL, Client(HOME.address, "its nonce")) as attempt:
        assert attempt.requester.known


def test_logins_refused_by_overload_are_not_counted() -> None:
    """Overload by strangers' attempts does not use up the attempts of the account they name."""
    limits = RateLimits(Settings(limit_account="2/1h"), HandClock(), b"salt")
    for _ in range(10):
        with pytest.raises(Overloaded), limits.login_of_account(EMAIL):
            raise Overloaded
    for _ in range(2):
        with limits.login_of_account(EMAIL):
            pass
    with pytest.raises(RateLimited), limits.login_of_account(EMAIL):
        pytest.fail("the third was not refused")
