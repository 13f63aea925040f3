"""Chunks cut from episodes: the training tuples of Section 3, ``(o_t, s_t, l, a_{t:t+L-1}, o_{t+Delta})``.

Chunks come in *segments*: consecutive chunks of one episode, ``chunk_stride`` steps apart, through which
belief tokens recur (Section 4.1). A chunk has a valid target when ``t + Delta <= T``: observation ``T``
is what the robot saw after its last action.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptrlib.config import DataConfig, NetworkConfig
from ptrlib.data.episodes import Episode
from ptrlib.data.errors import LEAVE_OUT, WITHOUT_IMAGES, DataError
from ptrlib.data.images import shift
from ptrlib.policy.action_space import DESCRIBE, EMBODIMENTS, SLOTS, Embodiment
from ptrlib.policy.instruction import hash_words

_LARGEST_NORMALISED = 4.0  # no value of the training data is normalised to more than this
_SMALLEST_SCALE = 0.01  # metre, radian or action unit: smaller movements are not blown up to unit size
# A glitch is told from rare movements by all four. It would squeeze everything else below a tenth of the unit size:
_GLITCH_RATIO = 40.0  # times as far from the median as everything else, at least
_GLITCH_DISTANCE = 2000.0  # at least: no joint goes so far and back, be it in radians, metres, degrees or per mille
_GLITCH_SHARE = 0.01  # of all steps, at most
_GLITCH_STEPS = 3  # of an episode, at most: what lasts longer may be a movement


def hold_out(episodes: Sequence[Episode], fraction: float, seed: int) -> tuple[list[Episode], list[Episode]]:
    """Split into (training, held out), whole episodes, the same fraction of every task; order is kept."""
    if not 0 <= fraction < 1:
        raise ValueError(f"held_out_fraction must lie in [0, 1), got {fraction}")
    generator = np.random.default_rng(seed)
    held = np.zeros(len(episodes), bool)
    tasks = np.array([episode.task for episode in episodes])
    for task in np.unique(tasks):
        members = np.flatnonzero(tasks == task)
        held[generator.permutation(members)[:round(fraction * len(members))]] = True
    return ([episode for episode, out in zip(episodes, held, strict=True) if not out],
            [episode for episode, out in zip(episodes, held, strict=True) if out])


@dataclass(frozen=True)
class Statistics:
    """Centre and scale of every unified slot, (200,) each; ``normalised = (raw - centre) / scale``.

    The 1 % to 99 % range of the training data becomes [-1, 1]. Two guards: the scale is widened until no
    training value exceeds 4 in size (rare large motions), and never falls below 0.01 (slots that hardly
    move). Slots that the data do not use keep centre 0 and scale 1, so zero stays zero.
    """

    state_centre: NDArray[np.float32]
    state_scale: NDArray[np.float32]
    action_centre: NDArray[np.float32]
    action_scale: NDArray[np.float32]

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Statistics:
        """Measured on ``episodes``, every step counted once. Raises DataError for a glitch: :func:`refuse_glitches`."""
        refuse_glitches(episodes)
        state, action = _ranges(episodes, "state"), _ranges(episodes, "action")
        return cls(*state, *action)

    def covering(self, episodes: Sequence[Episode]) -> Statistics:
        """These, each scale widened until no value of ``episodes`` exceeds 4 either; centres stay.

        A slot that hardly moved when these were measured has a scale of 0.01. Where it does move in the data that a
        policy goes on with, actions of unit size would be normalised to a hundred and drown every other error.
        ``episodes`` are the recorded ones: noise that a run adds to their labels can still exceed 4. Raises DataError
        for a glitch (:func:`refuse_glitches`).
        """
        refuse_glitches(episodes)
        return dataclasses.replace(
            self, state_scale=_widened(self.state_centre, self.state_scale, episodes, "state"),
            action_scale=_widened(self.action_centre, self.action_scale, episodes, "action"))

    def normalise_state(self, state: NDArray) -> NDArray[np.float32]:
        """Unified (..., 200), raw units -> normalised."""
        return ((state - self.state_centre) / self.state_scale).astype(np.float32)

    def normalise_actions(self, actions: NDArray) -> NDArray[np.float32]:
        """Unified (..., 200), raw units -> normalised."""
        return ((actions - self.action_centre) / self.action_scale).astype(np.float32)

    def restore_actions(self, actions: NDArray) -> NDArray[np.float32]:
        """Unified (..., 200), normalised -> raw units."""
        return (actions * self.action_scale + self.action_centre).astype(np.float32)

    def to_dict(self) -> dict[str, list[float]]:
        """For JSON; ``from_dict`` gives the same float32 values back."""
        return {field.name: getattr(self, field.name).tolist() for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> Statistics:
        return cls(**{field.name: np.asarray(values[field.name], np.float32)
                      for field in dataclasses.fields(cls)})


def _ranges(episodes: Sequence[Episode], which: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(centre, scale) over all episodes, per unified slot; embodiments share the slots they share."""
    per_embodiment = []
    for name in sorted({episode.embodiment for episode in episodes}):
        rows = np.concatenate([_unified(episode, which) for episode in episodes
                               if episode.embodiment == name])
        rows[:, ~_mask(name, which)] = np.nan
        per_embodiment.append(rows)
    values = np.concatenate(per_embodiment)
    used = ~np.isnan(values).all(axis=0)
    centre, scale = np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    low, high = np.nanquantile(values[:, used], (0.01, 0.99), axis=0)
    centre[used] = (low + high) / 2
    farthest = np.nanmax(np.abs(values[:, used] - centre[used]), axis=0)
    scale[used] = np.maximum(np.maximum((high - low) / 2, farthest / _LARGEST_NORMALISED), _SMALLEST_SCALE)
    return centre, scale


def _widened(centre: NDArray[np.float32], scale: NDArray[np.float32], episodes: Sequence[Episode],
             which: str) -> NDArray[np.float32]:
    farthest = np.max([(np.abs(_unified(episode, which) - centre) * _mask(episode.embodiment, which)).max(axis=0)
                       for episode in episodes], axis=0)
    return np.maximum(scale, farthest / _LARGEST_NORMALISED).astype(np.float32)


def refuse_glitches(episodes: Sequence[Episode]) -> None:
    """Raise DataError for a value that no robot reached: the scale would be made for it, and all that the joint really
    does be normalised to next to nothing.

    It lies 2000 units and 40 times farther from its slot's median than every other value of that robot, like 65535
    among angles, and such values are few: at most 1 % of all steps and 3 of an episode. Joints that never move or
    hardly ever and grippers that are nearly always open pass, and so does a glitch in a slot in which nothing else
    moves, where it drowns nothing.
    """
    for name in sorted({episode.embodiment for episode in episodes}):
        of_robot = [episode for episode in episodes if episode.embodiment == name]
        for which in ("state", "action"):
            _refuse_glitches(of_robot, which)


def _refuse_glitches(episodes: Sequence[Episode], which: str) -> None:
    """Of episodes of one robot."""
    robot = _robot(episodes[0])
    used = list(robot.state_slots if which == "state" else robot.action_slots)
    tables = [_unified(episode, which)[:, used].astype(np.float64) for episode in episodes]
    for column, slot in enumerate(used):
        middle = np.median(np.concatenate([table[:, column] for table in tables]))
        distances = [np.abs(table[:, column] - middle) for table in tables]
        reach = _reach_without_glitches(np.concatenate(distances))
        far = [np.flatnonzero(distance > reach) for distance in distances]
        if any(len(steps) > min(_GLITCH_STEPS, len(table) - 1) for steps, table in zip(far, tables, strict=True)):
            continue
        for episode, steps, table in zip(episodes, far, tables, strict=True):
            if len(steps):
                raise _glitch(episode, which, column, slot, int(steps[0]), table[steps[0], column],
                              f"all but {sum(map(len, far))} of {sum(map(len, tables))} values lie within "
                              f"{reach:.4g} of {middle:.4g}")


def _reach_without_glitches(distance: NDArray[np.float64]) -> float:
    """What only glitches among the distances (n,) from the median exceed; infinity where there are none."""
    ordered = np.sort(distance)
    most = min(max(1, int(_GLITCH_SHARE * len(ordered))), len(ordered) - 1)
    below, above = ordered[len(ordered) - most - 1:-1], ordered[len(ordered) - most:]
    gaps = np.flatnonzero((below > 0) & (above > np.maximum(_GLITCH_DISTANCE, _GLITCH_RATIO * below)))
    return float(below[gaps[0]]) if len(gaps) else np.inf


def _glitch(episode: Episode, which: str, column: int, slot: int, step: int, value: float, others: str) -> DataError:
    meaning = "/".join(name for name, (first, end) in SLOTS.items() if first <= slot < end)
    row = step + (episode.first_row if which == "action" else 0)
    return DataError(_origin(episode), f"is {value:.6g} in row {row}, column {column} (slot {slot}, {meaning}), where "
                     f"{others}", f"correct that value, or {LEAVE_OUT}", demo=episode.name,
                     key="actions" if which == "action" else "state")


def _robot(episode: Episode) -> Embodiment:
    if episode.embodiment not in EMBODIMENTS:
        raise DataError(_origin(episode), f"is of the robot {episode.embodiment!r}, which is not known",
                        f"set embodiment to one of {', '.join(EMBODIMENTS)}, {DESCRIBE}", demo=episode.name)
    return EMBODIMENTS[episode.embodiment]


def _unified(episode: Episode, which: str) -> NDArray[np.float32]:
    robot = _robot(episode)
    return robot.to_unified_state(episode.state) if which == "state" else robot.to_unified_action(episode.actions)


def _origin(episode: Episode) -> str:
    """Where to look for an episode; one that was made in memory has no file."""
    return episode.file or episode.source or episode.task


def _mask(embodiment: str, which: str) -> NDArray[np.bool_]:
    return EMBODIMENTS[embodiment].state_mask if which == "state" else EMBODIMENTS[embodiment].action_mask


@dataclass(frozen=True)
class Batch:
    """``S`` segments of ``N`` chunks; every field is a tensor with leading dimensions (S,) or (S, N).

    Chunks of a segment are packed to the front: the first is always present, and a chunk that is not
    (the episode ended) repeats the last frame, with ``present`` and ``valid`` False.
    """

    images: Tensor  # (S, N, cameras, height, width, 3) uint8, o_t
    state: Tensor  # (S, N, 200) normalised, s_t
    instruction: Tensor  # (S, W) int64 word hashes
    actions: Tensor  # (S, N, L, 200) normalised; past the end of the episode its last action is repeated
    action_mask: Tensor  # (S, 200) bool, the embodiment's slots
    step_mask: Tensor  # (S, N, L) bool, the step was really taken: t + i < T
    learn_mask: Tensor  # (S, N, L) bool, the step counts in the action loss (DataConfig.mask_padded_actions)
    target_images: Tensor  # (S, N, cameras, height, width, 3) uint8, o_{t+Delta}
    valid: Tensor  # (S, N) bool, there is an o_{t+Delta}
    present: Tensor  # (S, N) bool, there is an o_t
    episode_ids: Tensor  # (S,) int64 the data set's first_id and the index into its episodes
    starts: Tensor  # (S, N) int64, t
    frames: Tensor  # (S, N) int64, t + Delta
    offset: Tensor  # (S, N) int64, Delta
    task_ids: Tensor  # (S,) int64 index into ChunkDataset.tasks: the task that the instruction claims


class ChunkDataset:
    """Every chunk of ``episodes``, cut on demand; images stay in the episodes' own arrays.

    All episodes must have the same cameras at the same size; ``cameras`` is their order in a batch.
    """

    def __init__(self, episodes: Sequence[Episode], data: DataConfig, chunk_length: int,
                 statistics: Statistics, first_id: int = 0, *,
                 instruction_length: int = NetworkConfig.instruction_length, tasks: Sequence[str] = ()) -> None:
        """``first_id`` is the first episode's, where episodes of several data sets must be told apart;
        ``instruction_length`` is the number of words that instructions are padded or cut to; ``tasks`` are those of
        the data sets before, whose numbers they keep: a rule that remembers chunks of several compares them."""
        self.episodes = list(episodes)
        self.first_id = first_id
        self.data = data
        self.chunk_length = chunk_length
        self.statistics = statistics
        self.cameras = common_cameras(self.episodes)
        self.lengths = np.array([len(episode) for episode in self.episodes])
        names = [episode.task if data.true_tasks else episode.claimed_task or episode.task for episode in self.episodes]
        self.tasks = (*tasks, *sorted(set(names) - set(tasks)))
        self.task_ids = np.array([self.tasks.index(name) for name in names])
        self.instructions = np.stack([hash_words(episode.instruction, instruction_length) for episode in self.episodes])
        self._action_masks = np.stack([_mask(episode.embodiment, "action") for episode in self.episodes])
        self._first_action = np.concatenate([[0], np.cumsum(self.lengths)])
        self._first_state = np.concatenate([[0], np.cumsum(self.lengths + 1)])
        self._actions = np.concatenate([self._normalised(episode, "action") for episode in self.episodes])
        self._states = np.concatenate([self._normalised(episode, "state") for episode in self.episodes])

    def __len__(self) -> int:
        """The number of chunks: one per action."""
        return int(self._first_action[-1])

    def _normalised(self, episode: Episode, which: str) -> NDArray[np.float32]:
        normalise = self.statistics.normalise_state if which == "state" else self.statistics.normalise_actions
        return normalise(_unified(episode, which)) * _mask(episode.embodiment, which)

    def batch(self, episode: NDArray[np.int64], start: NDArray[np.int64], present: NDArray[np.bool_],
              shifts: NDArray[np.int64] | None = None) -> Batch:
        """The chunks at steps ``start`` (S, N) of episodes ``episode`` (S,).

        ``shifts`` (S, cameras, 2) moves all images of a segment down and right. Its targets stay: moved alike, they
        would be known by their shift among the candidates.
        """
        length = self.lengths[episode][:, None]
        frame = start + self.data.offset
        here = np.minimum(start, length - 1)  # a chunk that is absent repeats the last one
        there = np.minimum(frame, length)
        step = here[..., None] + np.arange(self.chunk_length)
        taken = step < length[..., None]
        rows = self._first_action[episode][:, None, None] + np.minimum(step, length[..., None] - 1)
        learned = taken if self.data.mask_padded_actions else np.ones_like(taken)
        images, targets = self._gather_images(episode, here, there, shifts)
        arrays = {
            "images": images, "target_images": targets,
            "state": self._states[self._first_state[episode][:, None] + here],
            "instruction": self.instructions[episode], "actions": self._actions[rows],
            "action_mask": self._action_masks[episode], "step_mask": taken, "learn_mask": learned,
            "valid": present & (frame <= length), "present": present,
            "episode_ids": episode + self.first_id, "starts": start,
            "frames": frame, "offset": np.full_like(start, self.data.offset),
            "task_ids": self.task_ids[episode]}
        return Batch(**{key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()})

    def following_states(self, episode: Tensor, start: Tensor) -> Tensor:
        """Normalised states (n, Delta, 200) after each of the Delta steps from ``start`` (n,) on in the episodes with
        indices ``episode`` (n,); the last one is repeated past the end."""
        step = start[:, None] + torch.arange(1, self.data.offset + 1)
        step = torch.minimum(step, torch.as_tensor(self.lengths)[episode][:, None])
        return torch.from_numpy(self._states)[torch.as_tensor(self._first_state)[episode][:, None] + step]

    def _gather_images(self, episode: NDArray[np.int64], here: NDArray[np.int64], there: NDArray[np.int64],
                       shifts: NDArray[np.int64] | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        segments, chunks = here.shape
        size = self.episodes[0].images[self.cameras[0]].shape[1:]
        images = np.empty((segments, chunks, len(self.cameras), *size), np.uint8)
        targets = np.empty_like(images)
        frames = np.concatenate([here, there], axis=1)
        for segment, index in enumerate(episode):
            for slot, camera in enumerate(self.cameras):
                seen = self.episodes[index].images[camera][frames[segment]]
                moved = seen if shifts is None else shift(seen, *shifts[segment, slot].tolist())
                images[segment, :, slot] = moved[:chunks]
                targets[segment, :, slot] = (moved if self.data.shift_targets else seen)[chunks:]
        return images, targets

    def scoring_batches(self, segments: int, *, every: int = 1, order: np.random.Generator | None = None
                        ) -> Iterator[Batch]:
        """Every chunk once (or those of every ``every``-th starting step, where ``every`` divides ``chunk_stride``), in
        training's segments, in order.

        ``order`` draws another order of the segments, so that those of a batch are of many episodes, as in training:
        a rule that compares chunks compares those of its batch. The last batch is then filled up with the segments of
        the first, whose chunks come twice: a score grows with the number of candidates.

        The chunks ``p, p + stride, p + 2 stride, ...`` of an episode, for each phase ``p < stride``, are cut
        into segments of ``segment_chunks``, so each chunk is scored at the recursion depths that training
        has. No augmentation.
        """
        stride, chunks = self.data.chunk_stride, self.data.segment_chunks
        lanes = [(index, start) for index, length in enumerate(self.lengths.tolist())
                 for block in range(0, length, stride * chunks)
                 for start in range(block, min(block + stride, length), every)]
        if order is not None:
            order.shuffle(lanes)
            lanes += lanes[:-len(lanes) % segments] if len(lanes) > segments else []
        for first in range(0, len(lanes), segments):
            episode, start = np.array(lanes[first:first + segments]).T
            starts = start[:, None] + stride * np.arange(chunks)
            yield self.batch(episode, starts, starts < self.lengths[episode][:, None])


class SegmentSampler:
    """An endless, resumable stream of training batches.

    Segments are drawn so that every chunk of the data set is equally likely (see ``draw``). Each rank draws
    the whole global batch of ``segments`` and cuts its own part, so that several ranks together see what one
    process would. ``state_dict`` holds all there is to know to continue bitwise.
    """

    def __init__(self, dataset: ChunkDataset, segments: int, seed: int, *, rank: int = 0,
                 world_size: int = 1) -> None:
        if segments % world_size:
            raise ValueError(f"{segments} segments a batch cannot be shared by {world_size} ranks; "
                             "make the batch a multiple of segment_chunks x ranks")
        self.dataset = dataset
        self.segments = segments
        self.generator = np.random.default_rng(seed)
        share = segments // world_size
        self._mine = slice(rank * share, (rank + 1) * share)
        self._segments = np.concatenate([self._of_episode(index, length)
                                         for index, length in enumerate(dataset.lengths.tolist())])

    def next(self) -> Batch:
        """The next batch, this rank's part."""
        episode, starts, present = self.draw()
        pixels = self.dataset.data.random_shift
        shifts = self.generator.integers(-pixels, pixels + 1, (self.segments, len(self.dataset.cameras), 2))
        return self.dataset.batch(episode[self._mine], starts[self._mine], present[self._mine],
                                  shifts[self._mine] if pixels else None)

    def draw(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Episodes (S,), chunk starts (S, N) and which are present (S, N) of the next global batch.

        Were segments to start at any step of the episode, its first chunks would be drawn less often than
        the rest (they could only be first in their segment). So a segment may also begin before the
        episode; the chunks it misses are left out and the others moved to the front.
        """
        stride, chunks = self.dataset.data.chunk_stride, self.dataset.data.segment_chunks
        episode, begin = self._segments[self.generator.integers(len(self._segments), size=self.segments)].T
        missed = -(np.minimum(begin, 0) // stride)
        starts = (begin + missed * stride)[:, None] + stride * np.arange(chunks)
        within = np.arange(chunks) < (chunks - missed)[:, None]
        return episode, starts, within & (starts < self.dataset.lengths[episode][:, None])

    def _of_episode(self, index: int, length: int) -> NDArray[np.int64]:
        """(n, 2): the episode and first step, maybe negative, of all its segments with a chunk inside it."""
        stride, chunks = self.dataset.data.chunk_stride, self.dataset.data.segment_chunks
        begin = np.arange(-(chunks - 1) * stride, length)
        inside = np.where(begin < 0, begin % stride, begin) < length
        return np.stack([np.full(inside.sum(), index), begin[inside]], axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = state["generator"]


def common_cameras(episodes: Sequence[Episode]) -> tuple[str, ...]:
    """The cameras of every episode, in the first one's order.

    Raises:
        ValueError: there are no episodes.
        DataError: one has no images, or other cameras or sizes of images than the first.
    """
    if not episodes:
        raise ValueError("there are no episodes to cut chunks from; "
                         "check data.path, data.filter_key, data.exclude and data.held_out_fraction")
    first = {camera: images.shape[1:] for camera, images in episodes[0].images.items()}
    for episode in episodes:
        found = {camera: images.shape[1:] for camera, images in episode.images.items()}
        if not found:
            raise DataError(_origin(episode), "holds no images", WITHOUT_IMAGES, demo=episode.name)
        if found != first or len(set(first.values())) != 1:
            raise DataError(_origin(episode), f"has images {found} where the first episode has {first}",
                            "read all with the same cameras (data.cameras) and one image_size, or "
                            f"{LEAVE_OUT}", demo=episode.name)
    return tuple(first)
