"""Check words: three words that both ends of a claim show, for two people to compare by voice."""

from __future__ import annotations

from hashlib import blake2s

WORDS_SHOWN = 3
_LABEL = b"wirehub check words"

WORDS = tuple(
    """
    acid acorn album alley amber anchor angle apple apron arch arrow atlas attic autumn bacon badge bagel
    barn basil bean bell bench bike bird bison blanket blossom boat bone book bow branch brick bridge broom
    bucket cabin cactus camel candle canoe carpet castle cave cedar chain chalk cherry chess circus cloud
    clover coal cobra coffee comet copper coral cotton crab crane crayon crow crystal cube daisy dawn deer
    desert diamond dolphin donkey dove dragon duck eagle echo elm engine falcon fan feather fence fern
    fiddle field flag flame flute forest fossil fox frog galaxy garden garlic gate geyser ginger giraffe
    glacier globe gold goose granite grape guitar hammer harbor harp hawk hazel hedge helmet heron hill
    honey horse hotel ice igloo iris iron island ivory jacket jade jaguar jar jelly jewel jungle juniper
    kettle key kite kiwi koala ladder lagoon lake lamp lantern laurel lava leaf lemon lily lion lizard
    lobster lotus magnet mango maple marble meadow melon mirror mitten moon moss mountain mud music napkin
    nectar nest nutmeg oak oasis ocean olive onion orange orbit orchid otter owl oyster palm panda paper
    parrot peach pearl pebble pepper piano pillow pine pirate planet plum pony puppet pyramid quail quartz
    quilt rabbit radio raven ribbon river robin rocket rose saddle salmon sand saturn shark shell silver
    snow spider spoon star stone storm sugar swan table temple thunder tiger timber tomato tower trumpet
    tulip tunnel turtle umbrella valley vase velvet violin volcano wagon walnut water whale wheat willow
    window winter wizard wolf yacht yarn yellow zebra zero zipper
    """.split()  # noqa: SIM905 - a list of 256 lines is harder to read
)
"""256 of them, all different in their first four letters."""


def check_words(*transcript: bytes) -> tuple[str, ...]:
    """24 bits of BLAKE2s over all that a claim was made of (wh.trust.exchange): they tell people that nobody
    is between them, the proof of a claim does not rest on them."""
    hashed = blake2s(_LABEL + b"".join(transcript)).digest()
    return tuple(WORDS[byte] for byte in hashed[:WORDS_SHOWN])
