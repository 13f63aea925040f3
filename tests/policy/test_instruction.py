import numpy as np

from ptrlib.config import NetworkConfig
from ptrlib.policy.instruction import PADDING, hash_words

VOCABULARY = (
    "pick up the black bowl between plate and ramekin place it on table center next to cookie box in top "
    "drawer of wooden cabinet stove left right front back cream cheese butter chocolate pudding alphabet "
    "soup bbq sauce ketchup milk orange juice salad dressing tomato basket open close middle push put "
    "wine bottle rack turn both moka pots white mug yellow microwave bottom book caddy compartment "
)


def test_case_punctuation_and_padding() -> None:
    words = hash_words("Put the bowl, on the stove.", 8)
    np.testing.assert_array_equal(words, hash_words("put the bowl on the stove", 8))
    assert words.dtype == np.int64 and words.shape == (8,)
    assert (words[:6] > 0).all() and (words[6:] == PADDING).all()
    assert words[1] == words[4] and len(set(words[:6].tolist())) == 5


def test_long_instructions_are_cut() -> None:
    assert hash_words("a b c d e", 3).tolist() == hash_words("a b c", 3).tolist()


def test_the_hash_is_stable() -> None:
    """A stored policy must read the same words in every later version."""
    assert hash_words("bowl", 1).item() == 6955926857725945816


def test_no_two_words_of_the_benchmark_are_confused() -> None:
    """In one bucket some words collide; in the pair of buckets that the backbone uses none does."""
    buckets = NetworkConfig.vocabulary
    words = [hash_words(word, 1).item() for word in set(VOCABULARY.split())]
    single = {word % buckets for word in words}
    pairs = {frozenset((word % buckets, word // buckets % buckets)) for word in words}
    assert len(single) < len(words) and len(pairs) == len(words)
