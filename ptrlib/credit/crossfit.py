"""Cross-fitted contrasts: our own reward-free rule, for what PTR's score cannot see (the book's page
"A rule of our own").

PTR asks one question of a chunk while the policy learns from it: can its consequence be picked out of a pool? Here
three others are asked, once, before training, of features of the policy that training starts from:

- *action*: can the recorded chunk be picked out among the chunks whose motion looked most like what followed?
  Labels that do not belong to the motion (action noise) fail.
- *instruction*: can the recorded instruction be picked out among those of the data set, given what was done and
  what came of it? Instructions that do not belong to the behaviour (label noise) fail.
- *ending*: can the episode's last view be picked out among views from within episodes? Those that were cut short
  (truncation) fail.

*consequence* is PTR's own question on these features, and *likelihood* no question at all but the start policy's
action loss: a control. Each scorer learns the answers of one half of the episodes and judges the other, because a
scorer knows by heart what it has learned from. (Chunks of the judged half can be among the wrong candidates of the
action question while it learns; their own answers it never sees.) A question's scores are averaged over the chunks of
the episode. What counts is by how much the answer falls short of the usual one under the same instruction, so that no
task is trusted more than another and a good answer to one question makes up for no bad one; the weight is Eq 21's with
its bounds:

    w = clip(exp(T / beta), w_min, w_max),    T = beta log w_max + sum_q min(T_q - quantile(T_q), 0).

Weights are fixed during training, and no gradient reaches the policy but that of the weighted loss. The first rule,
whose settings are CrossFitConfig's defaults, asks about chunks with all Delta steps recorded; the second
(``crossfit_every`` in experiments/tabletop_claim.yaml) asks about every one, with what is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ptrlib.config import CrossFitConfig, RunConfig
from ptrlib.credit.interface import ChunkFeatures, CreditOutput, FeatureSizes
from ptrlib.credit.sft import SFT
from ptrlib.data.chunks import Batch, ChunkDataset
from ptrlib.method.scorer import ptr_score, unit
from ptrlib.method.weights import conservative_weights
from ptrlib.policy.policy import Policy

SEGMENTS = 32  # of a batch while features are read
GROUP = 10  # episodes of about the same length, at least, among which the control AlikeCrossFit shuffles weights
_LEAST_SPREAD = 1e-3  # features that hardly vary are not blown up


@dataclass
class Evidence:
    """What the questions are asked of: n chunks, features standardised. Where an episode ends before t + Delta, its
    last observation and state stand for what is missing, as its last action does in the chunk.
    """

    episode: Tensor  # (n,) episode ids
    start: Tensor  # (n,) t
    context: Tensor  # (n, U, d) h_t under each of the U instructions
    instruction: Tensor  # (n,) which of them was recorded
    action: Tensor  # (n, L * slots)
    motion: Tensor  # (n, Delta * slots) s_{t+1 .. t+Delta} - s_t
    change: Tensor  # (n, D) g(o_{t+Delta}) - g(o_t)
    loss: Tensor  # (n,) the start policy's action loss
    view: Tensor  # (n, v) o_t and s_t under the recorded instruction
    ending: Tensor  # (n, v) the same of the episode's last observation

    def __len__(self) -> int:
        return len(self.episode)


class CrossFit(SFT):
    """Weights from :class:`Evidence`, by chunk; auxiliary losses are SFT's."""

    ranks_chunks = fixed = True
    score: Tensor  # (chunks,) T by chunk, of all data sets in a row
    weight: Tensor  # (chunks,)
    first: Tensor  # (episodes,) row of an episode's first chunk

    def __init__(self, config: RunConfig, sizes: FeatureSizes) -> None:
        super().__init__(config, sizes)
        for name in ("score", "weight"):
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("first", torch.empty(0, dtype=torch.int64))

    def prepare(self, policy: Policy, datasets: Sequence[ChunkDataset]) -> None:
        """Score and weight every chunk; the first data set is learned from, the others are only judged."""
        alone = alone_under_their_instruction(datasets[0])
        if alone == len(datasets[0].lengths) > 1 and self.config.crossfit.pooling == "episode":
            raise ValueError(f"each of the {alone} training episodes has an instruction of its own, and answers are "
                             "compared under the same instruction, so that each of their weights would be ptr.w_max; "
                             "give the episodes of one task one instruction, or choose another credit")
        lengths = torch.cat([torch.as_tensor(dataset.lengths) for dataset in datasets])
        self.first = lengths.cumsum(0) - lengths
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            evidence = read_evidence(policy, datasets, self.config.crossfit)
            answers = answered(evidence, len(datasets[0].lengths), self.config)
        words = torch.cat([torch.from_numpy(dataset.instructions) for dataset in datasets])
        instruction = torch.unique(words, dim=0, return_inverse=True)[1].repeat_interleave(lengths)
        by_chunk = [self._by_chunk(evidence, answer, lengths) for answer in answers.values()]
        shortfall = torch.stack([self._shortfall(answer, instruction, len(datasets[0])) for answer in by_chunk]).sum(0)
        ptr, beta = self.config.ptr, self.config.crossfit.beta
        self.score = shortfall + beta * math.log(ptr.w_max)
        self.weight = self._assigned(conservative_weights(
            self.score, beta=beta, alpha=ptr.alpha, w_min=ptr.w_min, w_max=ptr.w_max), datasets)

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        out = super().forward(features)
        rows = self.first[features.episode_ids] + features.frames - features.offset
        return CreditOutput(self.weight[rows], out.auxiliary_loss, self.score[rows], out.info)

    def _by_chunk(self, evidence: Evidence, scores: Tensor, lengths: Tensor) -> Tensor:
        """Scores (n,) of the evidence as one for every chunk: its episode's mean or, with pooling by chunk, its own or
        that of the scored chunk less than ``every`` steps before it (without one, as at the end of an episode, the mean
        stays); nan where nothing of the episode was scored."""
        episodes = len(lengths)
        total = torch.zeros(episodes).index_add_(0, evidence.episode, scores)
        count = torch.zeros(episodes).index_add_(0, evidence.episode, torch.ones_like(scores))
        by_chunk = (total / count).repeat_interleave(lengths)
        if self.config.crossfit.pooling == "chunk":
            for step in range(self.config.crossfit.every):
                inside = evidence.start + step < lengths[evidence.episode]
                by_chunk[(self.first[evidence.episode] + evidence.start + step)[inside]] = scores[inside]
        return by_chunk

    def _shortfall(self, answer: Tensor, instruction: Tensor, learned_from: int) -> Tensor:
        """(chunks,) by how much answers stay below the usual one of training chunks with the same ``instruction``
        (chunks,), 0 or less; 0 where none is known."""
        shortfall = torch.zeros_like(answer)
        for recorded in instruction.unique():
            same = instruction == recorded
            known = answer[:learned_from][same[:learned_from] & ~answer[:learned_from].isnan()]
            if len(known):
                shortfall[same] = answer[same] - known.quantile(self.config.crossfit.full_weight_quantile)
        return shortfall.nan_to_num(nan=0.0).clamp(max=0.0)

    def _assigned(self, weight: Tensor, datasets: Sequence[ChunkDataset]) -> Tensor:
        """The weights as they are used."""
        return weight


def alone_under_their_instruction(dataset: ChunkDataset) -> int:
    """How many episodes share their instruction with no other: their answers are compared with themselves alone."""
    return int((torch.bincount(_numbered(dataset)) == 1).sum())


def never_asked(dataset: ChunkDataset, crossfit: CrossFitConfig) -> int:
    """How many episodes have no chunk with as many recorded steps as are asked for: they keep the full weight."""
    return int((dataset.lengths < (crossfit.recorded_steps or dataset.data.offset)).sum())


class RandomCrossFit(CrossFit):
    """The weights of :class:`CrossFit` given to other episodes, of whose chunks they say nothing.

    An episode takes the mean weight of another one, which may be of another length: where short episodes weigh little,
    as with truncation, more chunks get a low weight than the rule gave one, and the effective sample size falls. All
    episodes are shuffled together, so that some training episodes take weights of held-out ones, which no corruption
    has lowered.
    """

    ranks_chunks = False

    def _assigned(self, weight: Tensor, datasets: Sequence[ChunkDataset]) -> Tensor:
        lengths = torch.cat([torch.as_tensor(dataset.lengths) for dataset in datasets])
        mean = torch.stack([part.mean() for part in weight.split(lengths.tolist())])
        order = self._givers(datasets, torch.Generator().manual_seed(self.config.seed))
        return mean[order].repeat_interleave(lengths)

    def _givers(self, datasets: Sequence[ChunkDataset], generator: torch.Generator) -> Tensor:
        """(episodes,) whose mean weight each episode takes."""
        return torch.randperm(sum(len(dataset.lengths) for dataset in datasets), generator=generator)


class AlikeCrossFit(RandomCrossFit):
    """The weights of :class:`CrossFit` given to other episodes of about the same length under the same instruction.

    What length and instruction tell, such as that an episode was cut short, these weights still say; what they lack is
    what the rule alone says. They are also about as uneven over chunks as the rule's. Episodes of a data set and an
    instruction are put in the order of their length, those of the same length in random order, and cut into groups of
    ``GROUP`` to less than twice as many; within a group each takes another one's weight. An episode alone in its group
    keeps its own.
    """

    def _givers(self, datasets: Sequence[ChunkDataset], generator: torch.Generator) -> Tensor:
        givers, first = [], 0
        for dataset in datasets:
            random = torch.rand(len(dataset.lengths), generator=generator)
            givers.append(first + _among_alike(torch.as_tensor(dataset.lengths), _numbered(dataset), random))
            first += len(dataset.lengths)
        return torch.cat(givers)


def _among_alike(lengths: Tensor, kind: Tensor, random: Tensor) -> Tensor:
    """A permutation (n,) within groups of ``GROUP`` or more values of like ``lengths`` (n,) and the same ``kind`` (n,),
    without fixed points where a group has two or more; ``random`` (n,), uniform in [0, 1), decides the rest."""
    permutation, shuffled = torch.arange(len(lengths)), random.argsort()
    for number in kind.unique():
        mine = shuffled[kind[shuffled] == number]
        ordered = mine[lengths[mine].argsort(stable=True)]
        for group in ordered.tensor_split(max(1, len(ordered) // GROUP)):
            mixed = group[random[group].argsort()]
            permutation[mixed] = mixed.roll(1)
    return permutation


def _numbered(dataset: ChunkDataset) -> Tensor:
    """(episodes,) a number for each distinct instruction."""
    return torch.unique(torch.from_numpy(dataset.instructions), dim=0, return_inverse=True)[1]


@torch.no_grad()
def read_evidence(policy: Policy, datasets: Sequence[ChunkDataset], crossfit: CrossFitConfig) -> Evidence:
    """The chunks of every ``crossfit.every``-th starting step of all data sets, if enough of what followed them is
    recorded (``crossfit.recorded_steps``)."""
    was_training = policy.training
    policy.eval()
    sentences = torch.unique(torch.cat([torch.from_numpy(dataset.instructions) for dataset in datasets]), dim=0)
    parts = [_of_batch(policy, batch, dataset, sentences, endings, crossfit.recorded_steps or dataset.data.offset)
             for dataset in datasets for endings in [_endings(policy, dataset)]
             for batch in tqdm(dataset.scoring_batches(SEGMENTS, every=crossfit.every), unit="batch", leave=False,
                               desc="crossfit, features", disable=None)]  # None: shown in a terminal alone
    policy.train(was_training)
    joined = Evidence(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Evidence)))
    for name in ("context", "action", "motion", "change"):
        setattr(joined, name, _standardised(getattr(joined, name)))
    joined.view, joined.ending = _standardised(torch.cat([joined.view, joined.ending])).chunk(2)
    return joined


def _endings(policy: Policy, dataset: ChunkDataset) -> Tensor:
    """(episodes, v) what is seen after each episode's last action."""
    parts = []
    for episode in torch.arange(len(dataset.lengths)).split(SEGMENTS):
        last = torch.as_tensor(dataset.lengths)[episode] - 1
        batch = dataset.batch(episode.numpy(), last[:, None].numpy(), np.ones((len(episode), 1), bool))
        parts.append(_view(policy, batch.target_images[:, 0], dataset.following_states(episode, last)[:, -1],
                           batch.instruction))
    return torch.cat(parts)


def _view(policy: Policy, images: Tensor, state: Tensor, words: Tensor) -> Tensor:
    """(B, v) of images (B, cameras, height, width, 3), states (B, 200) and instructions (B, W)."""
    context = policy.contextualise(policy.vision(images), words, None).pooled
    return torch.cat([context, policy.vision_tower.target_features(images), state], 1)


def _of_batch(policy: Policy, batch: Batch, dataset: ChunkDataset, sentences: Tensor, endings: Tensor,
              recorded_steps: int) -> Evidence:
    left = torch.as_tensor(dataset.lengths)[batch.episode_ids - dataset.first_id, None] - batch.starts
    chosen = (batch.present & (left >= recorded_steps)).flatten()
    of_segment = torch.arange(len(batch.present)).repeat_interleave(batch.present.shape[1])[chosen]
    places = chosen.nonzero()[:, 0]

    def flat(values: Tensor) -> Tensor:
        return values.flatten(0, 1).index_select(0, places)

    images, episode, start = flat(batch.images), batch.episode_ids[of_segment], batch.starts.flatten()[chosen]
    vision, words = policy.vision(images), batch.instruction[of_segment]
    contexts = [policy.contextualise(vision, sentence.expand(len(vision), -1), None).pooled for sentence in sentences]
    state, actions = flat(batch.state), flat(batch.actions)
    loss = policy.head.loss(policy.contextualise(vision, words, None), state, actions, batch.action_mask[of_segment],
                            flat(batch.step_mask), torch.Generator().manual_seed(0)).per_sample
    following = dataset.following_states(episode - dataset.first_id, start)
    tower = policy.vision_tower
    return Evidence(
        episode, start, torch.stack(contexts, 1), (words[:, None] == sentences).all(-1).int().argmax(1),
        actions.flatten(1), (following - state[:, None]).flatten(1),
        tower.target_features(flat(batch.target_images)) - tower.target_features(images), loss,
        _view(policy, images, state, words), endings[episode - dataset.first_id])


def _standardised(features: Tensor) -> Tensor:
    """Features (n, ..., d) with mean 0 and deviation 1; those that never vary are dropped."""
    over = tuple(range(features.dim() - 1))
    mean, deviation = features.mean(over), features.std(over)
    return ((features - mean) / deviation.clamp_min(_LEAST_SPREAD))[..., deviation > 0]


def answered(evidence: Evidence, episodes: int, config: RunConfig) -> dict[str, Tensor]:
    """question -> T_q (n,) in nats, for ``config.crossfit.questions``.

    Scorers learn from the first ``episodes`` episodes alone. With folds = 1 they judge what they learned from.

    Raises:
        ValueError: there is no such question, the folds leave a scorer nothing to learn from, or one diverged.
    """
    crossfit = config.crossfit
    answers = {}
    for name in crossfit.questions:
        if name not in (*QUESTIONS, "likelihood"):
            raise ValueError(f"crossfit.questions has no {name!r}; choose from {', '.join(QUESTIONS)}, likelihood")
        answers[name] = _likelihood(evidence) if name == "likelihood" else _cross_fitted(
            QUESTIONS[name], evidence, episodes, crossfit)
    return answers


def _cross_fitted(question: Callable[[Evidence, CrossFitConfig], Question], evidence: Evidence, episodes: int,
                  crossfit: CrossFitConfig) -> Tensor:
    """Scores (n,), each fold's by a scorer that learned from the others."""
    fold = (torch.randperm(int(evidence.episode.max()) + 1) % crossfit.folds)[evidence.episode]
    score = torch.zeros(len(evidence))
    for held in range(crossfit.folds):
        learn = (evidence.episode < episodes) & ((fold != held) | (crossfit.folds == 1))
        if not learn.any():
            raise ValueError(f"crossfit.folds={crossfit.folds} leaves a scorer none of the {episodes} episodes to "
                             "learn from; give it more demonstrations or, without cross-fitting, crossfit.folds=1")
        if (fold == held).any():  # of few episodes a fold may have no chunk to be judged
            score += _judged(question(evidence, crossfit), learn, fold == held, crossfit)
    return score


def _likelihood(evidence: Evidence) -> Tensor:
    """Minus the start policy's action loss, in units of its middle half's width over episodes."""
    count = int(evidence.episode.max()) + 1
    total = torch.zeros(count).index_add_(0, evidence.episode, evidence.loss)
    mean = total / torch.bincount(evidence.episode, minlength=count)
    low, high = mean[~mean.isnan()].quantile(torch.tensor([0.25, 0.75]))
    return -evidence.loss / (high - low).clamp_min(1e-6)


def _judged(question: Question, learn: Tensor, judge: Tensor, crossfit: CrossFitConfig) -> Tensor:
    """Train ``question`` by identification (Eq 31) on the chunks ``learn`` (n,) bool and score (Eq 14) the chunks
    ``judge`` (n,) bool; 0 elsewhere. Candidates of a question can be the batch, so the last one is filled up."""
    rows, optimizer = learn.nonzero()[:, 0], torch.optim.AdamW(
        question.parameters(), lr=crossfit.learning_rate, weight_decay=crossfit.weight_decay)
    question.train()
    for _ in tqdm(range(crossfit.steps), desc=f"crossfit, {type(question).__name__}", leave=False, disable=None):
        chunk = rows[torch.randint(len(rows), (crossfit.batch_size,))]
        loss = -torch.log_softmax(question(chunk), dim=1)[:, 0].mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    question.eval()
    score = torch.zeros(len(learn))
    judged = judge.nonzero()[:, 0]
    with torch.no_grad():
        for chunk in judged.split(crossfit.batch_size):
            missing = min(crossfit.batch_size, len(judged)) - len(chunk)
            filled = torch.cat([chunk, judged[:missing]])  # T grows with the number of candidates
            score[chunk] = ptr_score(question(filled))[:len(chunk)]
    if not score.isfinite().all():
        raise ValueError(f"the scorer of crossfit's {type(question).__name__} diverged; lower crossfit.learning_rate, "
                         "or raise crossfit.temperature")
    return score


class Question(nn.Module):
    """Logits (B, K+1) of chunks' candidates, the recorded one first."""

    def __init__(self, evidence: Evidence, crossfit: CrossFitConfig) -> None:
        super().__init__()
        self.evidence, self.crossfit = evidence, crossfit

    def _perceptron(self, width: int, out: int) -> nn.Sequential:
        crossfit = self.crossfit
        return nn.Sequential(nn.Dropout(crossfit.dropout), nn.Linear(width, crossfit.width), nn.GELU(),
                             nn.Dropout(crossfit.dropout), nn.Linear(crossfit.width, out))


class ActionQuestion(Question):
    """Which of the chunks whose motion was most like this one's was executed here? The logit is a Gaussian's
    whose mean is read off the motion."""

    def __init__(self, evidence: Evidence, crossfit: CrossFitConfig) -> None:
        super().__init__(evidence, crossfit)
        self.mean = nn.Sequential(nn.Linear(evidence.motion.shape[1], crossfit.width), nn.GELU(),
                                  nn.Linear(crossfit.width, evidence.action.shape[1]))
        self.log_deviation = nn.Parameter(torch.zeros(evidence.action.shape[1]))
        self.candidates = _nearest(evidence.motion, evidence.episode, crossfit.neighbours)

    def forward(self, chunk: Tensor) -> Tensor:
        action = self.evidence.action
        error = torch.cat([action[chunk, None], action[self.candidates[chunk]]], 1) - self.mean(
            self.evidence.motion[chunk])[:, None]
        return -0.5 * (error * (-self.log_deviation).exp()).square().sum(-1)


class InstructionQuestion(Question):
    """Under which of the data set's instructions was this done?"""

    def __init__(self, evidence: Evidence, crossfit: CrossFitConfig) -> None:
        super().__init__(evidence, crossfit)
        self.done = torch.cat([evidence.motion, evidence.action, evidence.change], 1)
        self.query = self._perceptron(self.done.shape[1], crossfit.embedding)
        self.key = self._perceptron(evidence.context.shape[2], crossfit.embedding)

    def forward(self, chunk: Tensor) -> Tensor:
        cosine = (unit(self.key(self.evidence.context[chunk])) * unit(self.query(self.done[chunk]))[:, None]).sum(-1)
        return _recorded_first(cosine / self.crossfit.temperature, self.evidence.instruction[chunk])


class EndingQuestion(Question):
    """Is the episode's last view an ending? Candidates are the views from within episodes of the batch."""

    def __init__(self, evidence: Evidence, crossfit: CrossFitConfig) -> None:
        super().__init__(evidence, crossfit)
        self.likeness = self._perceptron(evidence.view.shape[1], 1)

    def forward(self, chunk: Tensor) -> Tensor:
        views = self.likeness(self.evidence.view[chunk]).T.expand(len(chunk), -1)
        return torch.cat([self.likeness(self.evidence.ending[chunk]), views], 1)


class ConsequenceQuestion(Question):
    """PTR's: which change of the view followed? Candidates are those of the other chunks of the batch."""

    def __init__(self, evidence: Evidence, crossfit: CrossFitConfig) -> None:
        super().__init__(evidence, crossfit)
        recorded = evidence.instruction[:, None, None].expand(-1, -1, evidence.context.shape[2])
        self.before = torch.cat([evidence.context.gather(1, recorded)[:, 0], evidence.action], 1)
        self.query = self._perceptron(self.before.shape[1], crossfit.embedding)
        self.key = self._perceptron(evidence.change.shape[1], crossfit.embedding)

    def forward(self, chunk: Tensor) -> Tensor:
        cosine = unit(self.query(self.before[chunk])) @ unit(self.key(self.evidence.change[chunk])).T
        return _recorded_first(cosine / self.crossfit.temperature, torch.arange(len(chunk)))


QUESTIONS: dict[str, Callable[[Evidence, CrossFitConfig], Question]] = {
    "action": ActionQuestion, "instruction": InstructionQuestion, "ending": EndingQuestion,
    "consequence": ConsequenceQuestion}


def _recorded_first(logits: Tensor, recorded: Tensor) -> Tensor:
    """Logits (B, U) with column ``recorded`` (B,) put first and the others after it."""
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, recorded[:, None], False)
    return torch.cat([logits.gather(1, recorded[:, None]), logits[others].view(len(logits), -1)], 1)


def _nearest(motion: Tensor, episode: Tensor, count: int) -> Tensor:
    """(n, count) the chunks of other episodes whose motion (n, m) is nearest; fewer where an episode leaves fewer."""
    return torch.cat(list(_nearest_of_parts(motion, episode, min(count, _others(episode)))))


def _others(episode: Tensor) -> int:
    """How many chunks the longest episode leaves to the others."""
    return len(episode) - int(torch.bincount(episode).max())


def _nearest_of_parts(motion: Tensor, episode: Tensor, count: int) -> Iterator[Tensor]:
    for rows in torch.arange(len(motion)).split(512):
        distance = torch.cdist(motion[rows], motion).masked_fill(episode[rows, None] == episode, torch.inf)
        yield distance.topk(count, largest=False).indices
