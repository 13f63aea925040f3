"""Cross-fitted contrasts: our own reward-free rule, for what PTR's score cannot see (chapter "When does the
claim hold?").

PTR asks one question of a chunk while the policy learns from it: can its consequence be picked out of a pool? Here
two others are asked, once, before training, of features of the policy that training starts from:

- *action*: can the recorded chunk be picked out among the chunks whose motion looked most like what followed?
  Labels that do not belong to the motion (action noise) fail.
- *instruction*: can the recorded instruction be picked out among those of the data set, given what was done and
  what came of it? Instructions that do not belong to the behaviour (label noise) fail.

*consequence* is PTR's own question on these features, and *likelihood* no question at all but the start policy's
action loss: a control. Each scorer learns from one half of the episodes and judges the other, because a scorer
knows by heart what it has learned from. The scores of an episode's chunks are added over the questions and
averaged over the chunks, and the weight is Eq 21's with its bounds:

    w = clip(exp(T / beta), w_min, w_max),    T = S - quantile(S) + beta log w_max.

Weights are fixed during training, and no gradient reaches the policy but that of the weighted loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ptrlib.config import CrossFitConfig, RunConfig
from ptrlib.credit.interface import ChunkFeatures, CreditOutput, FeatureSizes
from ptrlib.credit.sft import SFT
from ptrlib.data.chunks import Batch, ChunkDataset
from ptrlib.method.scorer import ptr_score, unit
from ptrlib.method.weights import conservative_weights
from ptrlib.policy.policy import Policy

SEGMENTS = 32  # of a batch while features are read
_LEAST_SPREAD = 1e-3  # features that hardly vary are not blown up


@dataclass
class Evidence:
    """What the questions are asked of: n chunks with a recorded consequence, features standardised."""

    episode: Tensor  # (n,) episode ids
    start: Tensor  # (n,) t
    context: Tensor  # (n, U, d) h_t under each of the U instructions
    instruction: Tensor  # (n,) which of them was recorded
    action: Tensor  # (n, L * slots)
    motion: Tensor  # (n, Delta * slots) s_{t+1 .. t+Delta} - s_t
    change: Tensor  # (n, D) g(o_{t+Delta}) - g(o_t)
    loss: Tensor  # (n,) the start policy's action loss

    def __len__(self) -> int:
        return len(self.episode)


class CrossFit(SFT):
    """Weights from :class:`Evidence`, by chunk; auxiliary losses are SFT's."""

    ranks_chunks = True
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
        lengths = torch.cat([torch.as_tensor(dataset.lengths) for dataset in datasets])
        self.first = lengths.cumsum(0) - lengths
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            evidence = read_evidence(policy, datasets, self.config.crossfit.every)
            scores = sum_of_scores(evidence, len(datasets[0].lengths), self.config)
        self.score = self._centred(self._by_chunk(evidence, scores, lengths), len(datasets[0]))
        ptr = self.config.ptr
        self.weight = self._assigned(conservative_weights(
            self.score, beta=self.config.crossfit.beta, alpha=ptr.alpha, w_min=ptr.w_min, w_max=ptr.w_max), lengths)

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        out = super().forward(features)
        rows = self.first[features.episode_ids] + features.frames - features.offset
        return CreditOutput(self.weight[rows], out.auxiliary_loss, self.score[rows], out.info)

    def _by_chunk(self, evidence: Evidence, scores: Tensor, lengths: Tensor) -> Tensor:
        """Scores (n,) of the evidence as one for every chunk: the episode's mean, or that of the last scored chunk
        before it; nan where there is none."""
        episodes = len(lengths)
        total = torch.zeros(episodes).index_add_(0, evidence.episode, scores)
        count = torch.zeros(episodes).index_add_(0, evidence.episode, torch.ones_like(scores))
        by_chunk = (total / count).repeat_interleave(lengths)
        if self.config.crossfit.pooling == "chunk":
            for step in range(self.config.crossfit.every):
                inside = evidence.start + step < lengths[evidence.episode]
                by_chunk[(self.first[evidence.episode] + evidence.start + step)[inside]] = scores[inside]
        return by_chunk

    def _centred(self, score: Tensor, learned_from: int) -> Tensor:
        """T of scores S (chunks,): at the quantile of the training chunks and above the weight is w_max. Chunks
        that nothing is known about take the quantile's."""
        crossfit = self.config.crossfit
        known = score[:learned_from][~score[:learned_from].isnan()]
        reference = known.quantile(crossfit.full_weight_quantile) if len(known) else score.new_zeros(())
        return score.nan_to_num(nan=float(reference)) - reference + crossfit.beta * math.log(self.config.ptr.w_max)

    def _assigned(self, weight: Tensor, lengths: Tensor) -> Tensor:
        """The weights as they are used."""
        return weight


class RandomCrossFit(CrossFit):
    """The weights of :class:`CrossFit` given to other episodes: the same effective sample size, no information.

    An episode takes the mean weight of another one, of another length at most.
    """

    ranks_chunks = False

    def _assigned(self, weight: Tensor, lengths: Tensor) -> Tensor:
        mean = torch.stack([part.mean() for part in weight.split(lengths.tolist())])
        order = torch.randperm(len(mean), generator=torch.Generator().manual_seed(self.config.seed))
        return mean[order].repeat_interleave(lengths)


@torch.no_grad()
def read_evidence(policy: Policy, datasets: Sequence[ChunkDataset], every: int) -> Evidence:
    """The chunks of every ``every``-th starting step that have a recorded consequence, of all data sets."""
    was_training = policy.training
    policy.eval()
    sentences = torch.unique(torch.cat([torch.from_numpy(dataset.instructions) for dataset in datasets]), dim=0)
    parts = [_of_batch(policy, batch, dataset, sentences) for dataset in datasets
             for batch in dataset.scoring_batches(SEGMENTS, every=every)]
    policy.train(was_training)
    joined = Evidence(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Evidence)))
    for name in ("context", "action", "motion", "change"):
        setattr(joined, name, _standardised(getattr(joined, name)))
    return joined


def _of_batch(policy: Policy, batch: Batch, dataset: ChunkDataset, sentences: Tensor) -> Evidence:
    chosen = batch.valid.flatten()
    of_segment = torch.arange(len(batch.present)).repeat_interleave(batch.present.shape[1])[chosen]

    def flat(values: Tensor) -> Tensor:
        return values.flatten(0, 1)[chosen]

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
        tower.target_features(flat(batch.target_images)) - tower.target_features(images), loss)


def _standardised(features: Tensor) -> Tensor:
    """Features (n, ..., d) with mean 0 and deviation 1; those that never vary are dropped."""
    over = tuple(range(features.dim() - 1))
    mean, deviation = features.mean(over), features.std(over)
    return ((features - mean) / deviation.clamp_min(_LEAST_SPREAD))[..., deviation > 0]


def sum_of_scores(evidence: Evidence, episodes: int, config: RunConfig) -> Tensor:
    """S (n,) in nats: the sum over the questions of ``config.crossfit.questions``.

    Scorers learn from the first ``episodes`` episodes alone. With folds = 1 they judge what they learned from.
    """
    crossfit = config.crossfit
    unknown = [name for name in crossfit.questions if name not in QUESTIONS and name != "likelihood"]
    if unknown:
        raise ValueError(f"crossfit.questions has no {unknown[0]!r}; choose from {', '.join(QUESTIONS)}, likelihood")
    total = torch.zeros(len(evidence))
    for name in crossfit.questions:
        if name == "likelihood":
            total += _likelihood(evidence)
            continue
        fold = (torch.randperm(int(evidence.episode.max()) + 1) % crossfit.folds)[evidence.episode]
        for held in range(crossfit.folds):
            learn = (evidence.episode < episodes) & ((fold != held) | (crossfit.folds == 1))
            total += _judged(QUESTIONS[name](evidence, crossfit), learn, fold == held, crossfit)
    return total


def _likelihood(evidence: Evidence) -> Tensor:
    """Minus the start policy's action loss, in units of its middle half's width over episodes."""
    count = int(evidence.episode.max()) + 1
    total = torch.zeros(count).index_add_(0, evidence.episode, evidence.loss)
    mean = total / torch.bincount(evidence.episode, minlength=count)
    low, high = mean[~mean.isnan()].quantile(torch.tensor([0.25, 0.75]))
    return -evidence.loss / (high - low).clamp_min(1e-6)


def _judged(question: Question, learn: Tensor, judge: Tensor, crossfit: CrossFitConfig) -> Tensor:
    """Train ``question`` by identification (Eq 31) on the chunks ``learn`` (n,) bool and score (Eq 14) the chunks
    ``judge`` (n,) bool; 0 elsewhere."""
    rows, optimizer = learn.nonzero()[:, 0], torch.optim.AdamW(
        question.parameters(), lr=crossfit.learning_rate, weight_decay=crossfit.weight_decay)
    question.train()
    for _ in range(crossfit.steps):
        chunk = rows[torch.randint(len(rows), (crossfit.batch_size,))]
        loss = -torch.log_softmax(question(chunk), dim=1)[:, 0].mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    question.eval()
    score = torch.zeros(len(learn))
    with torch.no_grad():
        for chunk in judge.nonzero()[:, 0].split(crossfit.batch_size):
            score[chunk] = ptr_score(question(chunk))
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
    "action": ActionQuestion, "instruction": InstructionQuestion, "consequence": ConsequenceQuestion}


def _recorded_first(logits: Tensor, recorded: Tensor) -> Tensor:
    """Logits (B, U) with column ``recorded`` (B,) put first and the others after it."""
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, recorded[:, None], False)
    return torch.cat([logits.gather(1, recorded[:, None]), logits[others].view(len(logits), -1)], 1)


def _nearest(motion: Tensor, episode: Tensor, count: int) -> Tensor:
    """(n, count) the chunks of other episodes whose motion (n, m) is nearest."""
    return torch.cat(list(_nearest_of_parts(motion, episode, count)))


def _nearest_of_parts(motion: Tensor, episode: Tensor, count: int) -> Iterator[Tensor]:
    for rows in torch.arange(len(motion)).split(512):
        distance = torch.cdist(motion[rows], motion).masked_fill(episode[rows, None] == episode, torch.inf)
        yield distance.topk(min(count, len(motion)), largest=False).indices
