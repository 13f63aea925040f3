"""All of Section 4 as one module to lay over a policy.

::

    ptr = PosteriorTransitionReweighting(context_dim=..., action_dim=..., target_dim=...)
    out = ptr(context, action_tokens, targets, valid, episode_ids)
    loss = out.weighted_mean(per_sample_action_loss) + out.auxiliary_loss      # Eq 32
    loss.backward(); optimizer.step(); ptr.after_step(vision_tower)

Under DistributedDataParallel every rank calls the same methods in the same order; candidates, losses and
statistics are those of the joined batch, and the mean of the ranks' gradients is its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ptrlib.config import PTRConfig, RunConfig
from ptrlib.distributed import all_gather_with_gradient, batch_sizes, global_sum, rank
from ptrlib.method.belief import BeliefOutput, BeliefTokenizer
from ptrlib.method.candidates import CandidatePool, CandidateSet, Targets
from ptrlib.method.controller import AdaptiveScaleController
from ptrlib.method.scorer import (
    TransitionScorer,
    identification_losses,
    logits_of,
    pool_actions,
    ptr_score,
    ranking_losses,
    shift_in_random_order,
    unit,
)
from ptrlib.method.targets import EMATargetEncoder
from ptrlib.method.weights import conservative_weights, self_normalised_mean


@dataclass
class PTROutput:
    """What the overlay says about B samples. Score and weight carry no gradient."""

    score: Tensor  # (B,) T_t in nats (Eq 14); 0 without a valid target
    weight: Tensor  # (B,) w_t (Eq 21); 1 without a valid target and in warm-up
    auxiliary_loss: Tensor  # lambda_id L_id + lambda_rank L_rank + L_tok, over the global batch
    names: tuple[str, ...]
    statistics: Tensor  # one value per name, over the global batch

    @cached_property
    def info(self) -> dict[str, float]:
        """The statistics to log. Reading them is what waits for a GPU; nan where nothing was valid."""
        return dict(zip(self.names, self.statistics.tolist(), strict=True))

    def weighted_mean(self, loss: Tensor, present: Tensor | None = None) -> Tensor:
        """Eq 27 over the global batch for losses (B,); ``present`` (B,) bool leaves padding samples out, whatever
        their loss is."""
        if present is None:
            return self_normalised_mean(loss, self.weight)
        return self_normalised_mean(loss.masked_fill(~present, 0.0), self.weight * present)


class PosteriorTransitionReweighting(nn.Module):
    """Scorer, pool, target encoder and controller, with everything they remember in ``state_dict()``.

    Take checkpoints after :meth:`after_step`, not between it and the forward pass. With
    ``config.cross_rank_gather`` off every rank has a queue of its own, and a checkpoint too.

    In eval mode a forward pass remembers nothing: scores are a function of the state and the batch.

    Args:
        context_dim: width of the pooled context h_t.
        action_dim: width of the action tokens E_t.
        target_dim: D, width of the targets.
        vision_tower: the policy's tower, copied as target encoder; None if targets come from elsewhere.
        belief_dim: d, to have a belief tokenizer at ``.belief``; None if there is none or it lives elsewhere.
        log_every: steps between two steps of the controller.
        seed: of the draws from the queue and of the permutations.
    """

    window: Tensor  # sums named in _WINDOW since the last logging step

    def __init__(self, context_dim: int, action_dim: int, target_dim: int, config: PTRConfig | None = None,
                 vision_tower: nn.Module | None = None, *, belief_dim: int | None = None,
                 log_every: int = RunConfig.log_every, seed: int = 0) -> None:
        super().__init__()
        self.config = config = config or PTRConfig()
        config.check()
        if log_every < 1:
            raise ValueError(f"log_every must be 1 or more, got {log_every}")
        self.context_dim, self.action_dim, self.target_dim = context_dim, action_dim, target_dim
        self.log_every = log_every
        self.scorer = TransitionScorer(context_dim, action_dim, target_dim)
        self.pool = CandidatePool(target_dim, config, seed=seed)
        self.controller = AdaptiveScaleController(config)
        self.target_encoder = None if vision_tower is None else EMATargetEncoder(vision_tower, config)
        self.belief = None if belief_dim is None else BeliefTokenizer(belief_dim, config)
        self.step = 0
        self.pending: list[Targets] = []  # of this step, to enter the queue after it
        self.register_buffer("window", torch.zeros(len(_WINDOW)))

    def forward(self, context: Tensor, action_tokens: Tensor, targets: Tensor, valid: Tensor,
                episode_ids: Tensor, *, frames: Tensor | None = None, tasks: Tensor | None = None,
                state: Tensor | None = None, offset: Tensor | None = None, step_mask: Tensor | None = None,
                belief: BeliefOutput | None = None) -> PTROutput:
        """Score B chunks against their post-action targets.

        Args:
            context: (B, d_c) pooled h_t.
            action_tokens: (B, L, d_a) E_t.
            targets: (B, D) features of o_{t+Delta}; taken without gradient. A row with NaN or infinity counts as
                not recorded: in the queue it would spoil the steps to come. ``info["valid_ratio"]`` shows it.
            valid: (B,) bool, False where o_{t+Delta} was not recorded; ``targets`` is not read there.
            episode_ids: (B,) int, unique over the data set.
            frames: (B,) int, index t + Delta in the episode; without it only the sample's own target and
                equal features count as the same target.
            tasks: (B,) int, for hard negatives of the same task.
            state: (B, n), for hard negatives of nearby state where tasks are not given.
            offset: (B,) Delta in steps, needed where gamma < 1.
            step_mask: (B, L) bool, True on steps that exist.
            belief: the tokenizer's output for these chunks, to have L_tok in the auxiliary loss.

        Raises:
            ValueError: shapes that do not fit, or no ``offset`` where gamma < 1.
        """
        self._check(context, action_tokens, targets, valid, episode_ids, offset)
        _check_rows(len(context), valid=valid, episode_ids=episode_ids, frames=frames, tasks=tasks, offset=offset)
        _check_tables(len(context), action_tokens.shape[1], state, step_mask)
        valid = valid & targets.isfinite().all(1)
        targets_here = Targets.of(targets, valid, episode_ids, frames=frames, tasks=tasks, state=state,
                                  eps=self.config.norm_eps)
        sizes = batch_sizes(len(valid), valid.device) if self.config.cross_rank_gather else [len(valid)]
        start = sum(sizes[: rank()]) if len(sizes) > 1 else 0
        batch = targets_here.gathered(sizes)
        summary = pool_actions(action_tokens, step_mask)
        with self.pool.draws():
            candidates = self.pool.candidates(batch, start=start, count=len(valid),
                                              hard_ratio=self.controller.hard_ratio)
            partner = shift_in_random_order(batch.valid, self.pool.uniform(len(batch)).to(valid.device))
        permuted = all_gather_with_gradient(summary, sizes)[partner[start: start + len(valid)]]
        logits, permuted_logit = self._logits(context, summary, permuted, candidates)
        if self.training:
            self._remember(batch)
        discount = self._discount(valid, offset)
        return self._output(logits, permuted_logit, valid, (batch.valid.sum() > 1) & valid, discount, belief)

    def _logits(self, context: Tensor, summary: Tensor, permuted: Tensor,
                candidates: CandidateSet) -> tuple[Tensor, Tensor]:
        """Logits (B, K+1) of u+ = f(h, e) and the matched logit (B,) of u- = f(h, e~)."""
        size = len(context)
        query = self.scorer(context.repeat(2, 1), torch.cat([summary, permuted]))
        tau, clamp = self.controller.tau, self.config.logit_clamp
        with torch.autocast(query.device.type, enabled=False):
            logits = candidates.logits(query[:size], tau=tau, clamp=clamp)
            cosine = (unit(query[size:], self.config.norm_eps) * candidates.matched).sum(-1)
        return logits, logits_of(cosine, tau, clamp)

    def _output(self, logits: Tensor, permuted_logit: Tensor, valid: Tensor, ranked: Tensor, discount: Tensor,
                belief: BeliefOutput | None) -> PTROutput:
        """Losses and statistics, every one a ratio of two sums over the global batch."""
        score = ptr_score(logits.detach())
        identification = (discount * identification_losses(logits) * valid).sum()
        ranking = (ranking_losses(logits[:, 0], permuted_logit) * ranked).sum()
        entropy, diversity, chunks = _belief_sums(belief, logits)
        losses = torch.stack([identification, ranking, entropy, diversity])
        counts = torch.stack([valid.sum(), ranked.sum(), chunks, chunks]).to(losses.dtype)
        losses, counts, window = global_sum(
            torch.cat([losses, counts, _window(logits.detach(), score, valid)])).split([4, 4, len(_WINDOW)])
        if self.training:
            self.window += window.detach()
        means = losses / counts.clamp_min(1)
        config, controller = self.config, self.controller
        auxiliary = means @ means.new_tensor(
            [config.lambda_id, config.lambda_rank, config.lambda_ent, config.lambda_div])
        scales = means.new_tensor([controller.tau, controller.beta, controller.hard_ratio])
        statistics = torch.cat([_ratios(window), scales, losses / counts]).detach()  # 0 / 0 is nan
        shown = len(_STATISTICS) - (2 if belief is None else 0)
        weight = self._weight(score, valid)
        return PTROutput(score, weight, auxiliary, _STATISTICS[:shown], statistics[:shown])

    def _weight(self, score: Tensor, valid: Tensor) -> Tensor:
        """Eq 21, and 1 without a valid target and in warm-up."""
        if self.step < self.config.warmup_steps:
            return torch.ones_like(score)
        weight = conservative_weights(score, beta=self.controller.beta, alpha=self.config.alpha,
                                      w_min=self.config.w_min, w_max=self.config.w_max)
        return torch.where(valid, weight, 1.0)

    def _discount(self, valid: Tensor, offset: Tensor | None) -> Tensor:
        """gamma^Delta' (Section 4.4) with Delta' = offset / L: in chunk lengths, whatever the data."""
        if offset is None or self.config.gamma == 1:
            return torch.ones_like(valid, dtype=torch.float32)
        return self.config.gamma ** (offset.float() / self.config.base_policy.chunk_length)

    def encode_targets(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Targets (B, D) of post-action images by the EMA copy of the vision tower.

        With ``valid`` (B,) bool the other images are not looked at; their targets are zero.

        Raises:
            ValueError: there is no target encoder, or its features are not ``target_dim`` wide.
        """
        if self.target_encoder is None:
            raise ValueError("there is no target encoder: construct the overlay with vision_tower=")
        if valid is None:
            return _encoded(self.target_encoder, images, self.target_dim)
        targets, rows = torch.zeros(len(images), self.target_dim, device=images.device), valid.nonzero()[:, 0]
        if len(rows):
            targets[rows] = _encoded(self.target_encoder, images.index_select(0, rows), self.target_dim)
        return targets

    @torch.no_grad()
    def after_step(self, vision_tower: nn.Module | None = None) -> None:
        """Once after each optimiser step: move the target encoder, fill the queue, count the step, and every
        ``log_every`` steps let the controller act."""
        if self.target_encoder is not None:
            if vision_tower is None:
                raise ValueError("after_step needs the vision tower that the target encoder follows: "
                                 "call after_step(vision_tower)")
            self.target_encoder.update(vision_tower)
        for batch in self.pending:
            self.pool.push(batch)
        self.pending.clear()
        self.step += 1
        if self.step % self.log_every == 0:
            self.log_step()

    @torch.no_grad()
    def log_step(self) -> None:
        """One logging step: the controller sees the statistics of all samples since the last one."""
        if self.window[-1] > 0:
            self.controller.update(*_ratios(self.window).tolist())
        self.window.zero_()

    def _remember(self, batch: Targets) -> None:
        """Keep ``batch`` for the queue; more than the queue holds is never kept."""
        self.pending.append(batch)
        while sum(map(len, self.pending[1:])) >= self.config.queue_size:
            del self.pending[0]

    def _check(self, context: Tensor, action_tokens: Tensor, targets: Tensor, valid: Tensor,
               episode_ids: Tensor, offset: Tensor | None) -> None:
        size = len(context)
        shapes = f"{tuple(context.shape)}, {tuple(action_tokens.shape)}, {tuple(targets.shape)}"
        if context.dim() != 2 or action_tokens.dim() != 3 or targets.dim() != 2:
            raise ValueError(f"expected context (B, {self.context_dim}), action_tokens (B, L, {self.action_dim}) and "
                             f"targets (B, {self.target_dim}), got {shapes}")
        _check_width("context", context, "context_dim", self.context_dim)
        _check_width("action_tokens", action_tokens, "action_dim", self.action_dim)
        _check_width("targets", targets, "target_dim", self.target_dim)
        if not len(action_tokens) == len(targets) == len(valid) == len(episode_ids) == size:
            raise ValueError(f"action_tokens, targets, valid and episode_ids must be as long as context ({size}), "
                             f"got {len(action_tokens)}, {len(targets)}, {len(valid)} and {len(episode_ids)}")
        if valid.dtype != torch.bool:
            raise ValueError(f"valid must be a bool tensor, got {valid.dtype}")
        if offset is None and self.config.gamma < 1:
            raise ValueError("gamma < 1 discounts by the offset of each target: pass offset=")

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        self.step = int(state)


def _encoded(encoder: EMATargetEncoder, images: Tensor, width: int) -> Tensor:
    targets = encoder(images)
    _check_width("vision_tower's features", targets, "target_dim", width)
    return targets


def _check_width(what: str, given: Tensor, key: str, width: int) -> None:
    """Raise ValueError for features (..., d) that are not as wide as the overlay was constructed for."""
    if given.shape[-1] != width:
        raise ValueError(f"the width of {what} is {given.shape[-1]} and the overlay was constructed with "
                         f"{key}={width}; make both the same")


def _check_rows(size: int, **given: Tensor | None) -> None:
    """Raise ValueError for an input that has not one value per sample; None is not given."""
    for name, values in given.items():
        if values is not None and values.shape != (size,):
            raise ValueError(f"{name} must have one value per sample, shape ({size},), got {tuple(values.shape)}")


def _check_tables(size: int, steps: int, state: Tensor | None, step_mask: Tensor | None) -> None:
    if state is not None and (state.dim() != 2 or len(state) != size):
        raise ValueError(f"state must have shape ({size}, n), got {tuple(state.shape)}")
    if step_mask is not None and step_mask.shape != (size, steps):
        raise ValueError(f"step_mask must have shape ({size}, {steps}), as action_tokens have, "
                         f"got {tuple(step_mask.shape)}")


_WINDOW = ("opposed", "correct", "margin", "score", "valid", "samples")  # sums behind the statistics
_STATISTICS = ("nce_acc", "nce_margin", "nce_adv", "valid_ratio", "tau", "beta", "hard_ratio", "loss_id",
               "loss_rank", "tok_entropy", "tok_diversity")


def _window(logits: Tensor, score: Tensor, valid: Tensor) -> Tensor:
    """The sums named in _WINDOW over B samples. Accuracy, margin and score are of samples with a valid
    target and at least one mismatched candidate; a tie with the best of those is not correct."""
    best = logits[:, 1:].amax(1)
    opposed = best > -torch.inf
    margin = torch.where(opposed, logits[:, 0] - best, 0.0)
    return torch.stack([opposed.sum(), (margin > 0).sum(), margin.sum(), (score * opposed).sum(), valid.sum(),
                        valid.new_tensor(len(valid), dtype=torch.int64)]).to(logits.dtype)


def _ratios(window: Tensor) -> Tensor:
    """nce_acc, nce_margin, nce_adv and valid_ratio of the sums named in _WINDOW; nan where 0 / 0."""
    opposed, correct, margin, score, valid, samples = window.unbind()
    return torch.stack([correct / opposed, margin / opposed, score / opposed, valid / samples])


def _belief_sums(belief: BeliefOutput | None, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of H_tok and D_tok and their number; zeros without a tokenizer."""
    if belief is None:
        return like.new_zeros(()), like.new_zeros(()), like.new_zeros(())
    count = like.new_tensor(belief.entropy.numel())
    return belief.entropy.sum().to(like.dtype), belief.diversity.sum().to(like.dtype), count
