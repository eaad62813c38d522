"""Single lines of a network file are changed; the others stay as they are, and so do members' addresses."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.config.edits import add_alias, claim_alias, remove_member
from wh.config.parser import parse
from wh.errors import Code, ConfigError
from whcore.keys import encode_key, encode_key_wg


def key(number: int) -> bytes:
    return bytes([9, number]) + bytes(30)


A, B, C, ALIAS, CLAIMANT = (key(number) for number in range(5))
FILE = f"""\
# our network
subnet\t10.0.42.0/24   # private

trust a {encode_key(A)}
  alias  guest {encode_key_wg(ALIAS)} at a expires 2030-01-01   # for Zoe
trust b {encode_key(B)} 192.0.2.1:7
trust c {encode_key(C)}
"""


def addresses(text: str) -> dict[bytes, str]:
    return {peer.key: str(peer.ip) for peer in parse(text).peers if peer.ip is not None}


def test_a_claimed_alias_becomes_a_trust_line_with_its_name_address_and_comment():
    changed = claim_alias(FILE, ALIAS, CLAIMANT)
    old, new = FILE.splitlines(), changed.splitlines()
    assert new[4] == f"  trust guest 10.0.42.3 {encode_key(CLAIMANT)}   # for Zoe"
    assert [*new[:4], *new[5:]] == [*old[:4], *old[5:]]
    assert addresses(changed) == {
        (CLAIMANT if peer == ALIAS else peer): ip for peer, ip in addresses(FILE).items()
    }


def test_line_ends_and_a_missing_last_one_are_kept():
    windows = FILE.replace("\n", "\r\n").removesuffix("\r\n")
    assert claim_alias(windows, ALIAS, CLAIMANT) == claim_alias(FILE, ALIAS, CLAIMANT).replace(
        "\n", "\r\n"
    ).removesuffix("\r\n")
    assert add_alias(windows, "late", CLAIMANT) == windows + f"\r\nalias late {encode_key(CLAIMANT)}\r\n"


def test_an_alias_is_claimed_once():
    with pytest.raises(ConfigError, match="not in the network file any more"):
        claim_alias(claim_alias(FILE, ALIAS, CLAIMANT), ALIAS, key(9))


def test_a_member_cannot_claim_a_second_place():
    with pytest.raises(ConfigError, match="already set"):
        claim_alias(FILE, ALIAS, C)


def test_a_new_alias_stands_at_the_end_and_moves_nobody():
    changed = add_alias(FILE, "late", CLAIMANT, expires=1_900_000_000)
    assert changed == FILE + f"alias late {encode_key(CLAIMANT)} expires 1900000000\n"
    assert addresses(FILE).items() <= addresses(changed).items()


@pytest.mark.parametrize("name", ["a", "GUEST", "-x", "10.0.42.9", "a b", "x\nboot", "#"])
def test_a_new_alias_needs_a_free_and_proper_name(name: str):
    with pytest.raises(ConfigError):
        add_alias(FILE, name, CLAIMANT)


def test_a_name_that_is_taken_says_by_whom_and_what_to_do():
    for name, said in (("GUEST", "wh revoke guest"), ("b", "another name")):
        with pytest.raises(ConfigError) as caught:
            add_alias(FILE, name, CLAIMANT)
        assert caught.value.code == Code.NAME_TAKEN
        assert said in caught.value.hint


def test_an_alias_that_has_expired_is_replaced_by_its_namesake_and_nobody_moves():
    changed = add_alias(FILE, "guest", CLAIMANT, expires=2_000_000_000, now_unix=1_900_000_000)
    old, new = FILE.splitlines(), changed.splitlines()
    assert new[4] == f"  alias guest {encode_key(CLAIMANT)} expires 2000000000   # for Zoe"
    assert [*new[:4], *new[5:]] == [*old[:4], *old[5:]]
    assert addresses(changed)[CLAIMANT] == addresses(FILE)[ALIAS]


def test_a_full_subnet_takes_the_place_of_an_alias_that_has_expired():
    full = FILE.replace("/24", "/29") + f"trust d {encode_key(key(8))}\n"
    before = addresses(full)
    changed = add_alias(full, "late", CLAIMANT, now_unix=1_900_000_000)
    assert addresses(changed)[CLAIMANT] == before.pop(ALIAS)
    assert addresses(changed).items() >= before.items()
    with pytest.raises(ConfigError) as caught:
        add_alias(full, "late", CLAIMANT, now_unix=1)
    assert caught.value.code == Code.SUBNET_FULL
    assert "wh revoke guest" in caught.value.hint


def test_a_full_subnet_takes_no_alias():
    with pytest.raises(ConfigError) as caught:
        add_alias(
            f"subnet 10.0.42.0/29\n{FILE.partition('/24')[2]}trust d {encode_key(key(8))}", "x", CLAIMANT
        )
    assert caught.value.code == Code.SUBNET_FULL


def test_a_removed_member_leaves_the_others_their_addresses():
    changed = remove_member(FILE, ALIAS)
    assert "alias" not in changed
    assert f"trust b 10.0.42.4 {encode_key(B)} 192.0.2.1:7\n" in changed
    assert addresses(FILE).items() >= addresses(changed).items()


def test_the_last_member_goes_without_a_trace():
    assert remove_member(FILE, C) == FILE.removesuffix(f"trust c {encode_key(C)}\n")


def test_a_member_that_aliases_are_bound_to_stays():
    with pytest.raises(ConfigError) as caught:
        remove_member(FILE, A)
    assert caught.value.code == Code.BAD_ALIAS


def test_whom_the_file_does_not_trust_it_cannot_lose():
    with pytest.raises(ConfigError) as caught:
        remove_member(FILE + f"peer {encode_key(CLAIMANT)}\n", CLAIMANT)
    assert caught.value.code == Code.UNKNOWN_PEER


def test_a_broken_file_is_not_changed():
    with pytest.raises(ConfigError, match="unknown word"):
        claim_alias(FILE + "nonsense\n", ALIAS, CLAIMANT)


IPS = st.sampled_from(["", "10.0.42.2", "10.0.42.3", "10.0.42.5", "10.0.42.7"])


@given(st.lists(IPS, min_size=1, max_size=8))
@settings(derandomize=True, deadline=None)
def test_nobody_ever_moves(wanted: Sequence[str]):
    lines = ["subnet 10.0.42.0/24"]
    for number, ip in enumerate(wanted):
        kind = "alias" if number % 2 else "trust"
        free = ip if ip not in wanted[:number] else ""
        lines.append(f"{kind} n{number} {free} {encode_key(key(number))}")
    text = "\n".join(lines)
    before = addresses(text)
    order = list(before)
    random.Random(len(wanted)).shuffle(order)
    for member in order:
        gone = member
        if any(peer.is_alias for peer in parse(text).peers if peer.key == member):
            gone = key(200)
            text = claim_alias(text, member, gone)
        assert addresses(text)[gone] == before[member]
        text = remove_member(text, gone)
        assert addresses(text).items() <= before.items()
