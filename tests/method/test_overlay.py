"""The overlay: gradient routing, warm-up and fallback, statistics, and exact continuation."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from ptrlib.config import PTRConfig
from ptrlib.method.candidates import CandidatePool, Targets
from ptrlib.method.overlay import PosteriorTransitionReweighting, PTROutput
from ptrlib.method.scorer import identification_logits, ptr_score, shift_in_random_order

DIM, STEPS, SIZE = 6, 4, 10
CONFIG = PTRConfig(warmup_steps=0, queue_size=32, queue_negatives=8, lambda_id=0.5)


def batch(seed: int, size: int = SIZE, **more) -> dict:
    generator = torch.Generator().manual_seed(seed)
    inputs = {"context": torch.randn(size, DIM, generator=generator),
              "action_tokens": torch.randn(size, STEPS, DIM, generator=generator),
              "targets": torch.randn(size, DIM, generator=generator),
              "valid": torch.rand(size, generator=generator) > 0.2,
              "episode_ids": torch.randint(20, (size,), generator=generator),
              "frames": torch.randint(100, (size,), generator=generator),
              "tasks": torch.randint(3, (size,), generator=generator),
              "state": torch.randn(size, 3, generator=generator)}
    return inputs | more


def overlay(config: PTRConfig = CONFIG, **more) -> PosteriorTransitionReweighting:
    torch.manual_seed(0)
    return PosteriorTransitionReweighting(DIM, DIM, DIM, config, **more)


def parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def test_the_output_is_the_sum_of_the_parts():
    """Score, weight and both losses from first principles, with the pool's own candidates."""
    ptr = overlay(seed=3)
    for seed in range(2):
        ptr(**batch(seed))
        ptr.after_step()
    inputs = batch(5)
    twin = copy_of(ptr)
    out = ptr(**inputs)
    rows = Targets.of(inputs["targets"], inputs["valid"], inputs["episode_ids"], frames=inputs["frames"],
                      tasks=inputs["tasks"], state=inputs["state"])
    candidates = twin.pool.candidates(rows)
    query = twin.scorer(inputs["context"], inputs["action_tokens"].mean(1))
    logits = identification_logits(query, candidates.features, tau=0.12, mask=candidates.mask)
    valid = inputs["valid"]
    score = ptr_score(logits)
    torch.testing.assert_close(out.score, score.detach())
    weight = (score / 1.5).exp().clamp(0.25, 4.0)
    torch.testing.assert_close(out.weight, torch.where(valid, weight, 1.0).detach())
    loss = (candidates.mask.sum(1).log() - score)[valid].mean()
    assert out.info["loss_id"] == pytest.approx(loss.item(), rel=1e-5)
    partner = shift_in_random_order(valid, twin.pool.uniform(len(valid)))  # drawn after the candidates
    permuted = identification_logits(twin.scorer(inputs["context"], inputs["action_tokens"].mean(1)[partner]),
                                     candidates.features[:, :1], tau=0.12)[:, 0]
    rank = -torch.log(torch.sigmoid(logits[:, 0] - permuted))[valid].mean()  # Eq 13: the true actions' logit is higher
    assert out.info["loss_rank"] == pytest.approx(rank.item(), rel=1e-5)
    expected = 0.5 * out.info["loss_id"] + 0.25 * out.info["loss_rank"]
    assert out.auxiliary_loss.item() == pytest.approx(expected, rel=1e-5)
    best = logits[:, 1:].amax(1)
    assert out.info["nce_acc"] == pytest.approx((logits[:, 0] > best)[valid].float().mean().item())
    assert out.info["nce_margin"] == pytest.approx((logits[:, 0] - best)[valid].mean().item(), rel=1e-4)
    assert out.info["nce_adv"] == pytest.approx(score[valid].mean().item(), rel=1e-4, abs=1e-6)
    assert out.info["valid_ratio"] == pytest.approx(valid.float().mean().item())


def test_lengths_are_measured_by_the_configured_eps():
    """Longer than all vectors here, it divides every query, target and entry of the queue."""
    eps, ptr = 8.0, overlay(dataclasses.replace(CONFIG, norm_eps=8.0), seed=3)
    ptr(**batch(0))
    ptr.after_step()
    inputs, twin = batch(5), copy_of(ptr)
    out, queue = ptr(**inputs), twin.pool.queue()
    entered = batch(0)
    torch.testing.assert_close(queue.features, entered["targets"][entered["valid"]] / eps)
    valid, targets = inputs["valid"], inputs["targets"] / eps
    rows = Targets.of(inputs["targets"], valid, inputs["episode_ids"], frames=inputs["frames"], tasks=inputs["tasks"],
                      state=inputs["state"], eps=eps)
    candidates, summary = twin.pool.candidates(rows), inputs["action_tokens"].mean(1)
    partner = shift_in_random_order(valid, twin.pool.uniform(len(valid)))
    query, permuted = (twin.scorer(inputs["context"], actions) / eps for actions in (summary, summary[partner]))
    logits = torch.cat([(query * targets).sum(1, keepdim=True), query @ targets.T,
                        torch.einsum("bd,bkd->bk", query, queue.features[candidates.drawn])], 1) / 0.12
    score = ptr_score(logits.masked_fill(~candidates.mask, -torch.inf))
    torch.testing.assert_close(out.score[valid], score[valid].detach())
    margin = logits[:, 0] - (permuted * targets).sum(1) / 0.12
    assert out.info["loss_rank"] == pytest.approx(-torch.log(torch.sigmoid(margin))[valid].mean().item(), rel=1e-5)


def copy_of(ptr: PosteriorTransitionReweighting) -> PosteriorTransitionReweighting:
    twin = PosteriorTransitionReweighting(DIM, DIM, DIM, ptr.config)
    twin.load_state_dict(ptr.state_dict())
    return twin


def test_the_action_loss_gives_the_scorer_no_gradient():
    ptr = overlay()
    inputs = batch(0, context=torch.randn(SIZE, DIM, requires_grad=True))
    out = ptr(**inputs)
    loss = out.weighted_mean(inputs["context"].square().sum(1))
    gradients = torch.autograd.grad(loss, [inputs["context"], *parameters(ptr)], allow_unused=True)
    assert (gradients[0] != 0).any()
    assert all(gradient is None for gradient in gradients[1:])
    assert not out.score.requires_grad and not out.weight.requires_grad
    expected = 2 * inputs["context"].detach() * (out.weight / out.weight.sum())[:, None]  # Eq 33
    torch.testing.assert_close(gradients[0], expected)


def test_the_auxiliary_loss_reaches_scorer_and_policy_features_but_no_target():
    ptr = overlay(vision_tower=nn.Linear(3, DIM))
    images = torch.randn(SIZE, 3, requires_grad=True)
    features = torch.randn(SIZE, DIM, requires_grad=True)
    inputs = batch(0, context=torch.randn(SIZE, DIM, requires_grad=True),
                   action_tokens=torch.randn(SIZE, STEPS, DIM, requires_grad=True), targets=features)
    ptr(**inputs).auxiliary_loss.backward()
    assert features.grad is None
    assert all((parameter.grad != 0).any() for parameter in ptr.scorer.parameters())
    assert (inputs["context"].grad != 0).any() and (inputs["action_tokens"].grad != 0).any()
    ptr(**inputs | {"targets": ptr.encode_targets(images)}).auxiliary_loss.backward()
    assert images.grad is None
    assert all(parameter.grad is None for parameter in ptr.target_encoder.parameters())


def test_invalid_samples_give_no_gradient_and_weight_one():
    inputs = batch(0, context=torch.randn(SIZE, DIM, requires_grad=True),
                   action_tokens=torch.randn(SIZE, STEPS, DIM, requires_grad=True))
    out = overlay()(**inputs)
    out.auxiliary_loss.backward()
    invalid = ~inputs["valid"]
    assert invalid.any() and (out.weight[invalid] == 1).all() and (out.score[invalid] == 0).all()
    assert (out.weight[~invalid] != 1).any()
    assert (inputs["context"].grad[invalid] == 0).all() and (inputs["action_tokens"].grad[invalid] == 0).all()


def test_auxiliary_terms_are_not_weighted():
    """The loss and its gradient are the same in and after the warm-up, where all weights are 1."""
    results = []
    for warmup in (0, 10):
        ptr = overlay(dataclasses.replace(CONFIG, warmup_steps=warmup))
        out = ptr(**batch(0))
        out.auxiliary_loss.backward()
        results.append((out, [parameter.grad for parameter in ptr.scorer.parameters()]))
    assert (results[0][0].weight != 1).any() and (results[1][0].weight == 1).all()
    torch.testing.assert_close(results[0][0].auxiliary_loss, results[1][0].auxiliary_loss)
    torch.testing.assert_close(results[0][1], results[1][1])


def test_the_warm_up_ends_after_so_many_steps():
    ptr = overlay(dataclasses.replace(CONFIG, warmup_steps=3))
    uniform = []
    for seed in range(5):
        uniform.append(bool((ptr(**batch(seed)).weight == 1).all()))
        ptr.after_step()
    assert uniform == [True, True, True, False, False]


def test_alpha_zero_is_uniform():
    assert (overlay(dataclasses.replace(CONFIG, alpha=0.0))(**batch(0)).weight == 1).all()


def test_a_later_chunk_gives_no_gradient_to_an_earlier_chunk():
    """Eq 3-5: the second chunk's whole loss has no gradient in the first chunk's inputs."""
    ptr = overlay(belief_dim=DIM)
    first = torch.randn(SIZE, STEPS, DIM, requires_grad=True)
    belief = ptr.belief(first, first)
    context = torch.randn(SIZE, DIM, requires_grad=True)
    joined = context + belief.tokens.mean(1)  # what a backbone would do with z
    tokens = torch.randn(SIZE, STEPS, DIM, requires_grad=True)
    out = ptr(**batch(1, context=joined, action_tokens=tokens), belief=ptr.belief(tokens, tokens))
    loss = out.weighted_mean(joined.square().sum(1)) + out.auxiliary_loss
    gradient = torch.autograd.grad(loss, [first, context, *ptr.belief.parameters()], allow_unused=True)
    assert gradient[0] is None
    assert all((value != 0).any() for value in gradient[1:])


def test_the_tokenizers_loss_is_its_own_and_enters_once():
    config = dataclasses.replace(CONFIG, lambda_id=0.0, lambda_rank=0.0, lambda_ent=0.5, lambda_div=0.25)
    ptr = overlay(config, belief_dim=DIM)
    tokens = torch.randn(SIZE, STEPS, DIM)
    belief = ptr.belief(tokens, tokens)
    out = ptr(**batch(0), belief=belief)
    assert out.auxiliary_loss.item() == pytest.approx(
        0.5 * belief.entropy.mean().item() + 0.25 * belief.diversity.mean().item(), rel=1e-5)
    assert out.info["tok_entropy"] == pytest.approx(belief.entropy.mean().item(), rel=1e-5)
    scalar = ptr(**batch(0), belief=belief._replace(entropy=belief.entropy.mean(),
                                                    diversity=belief.diversity.mean()))
    torch.testing.assert_close(scalar.auxiliary_loss, out.auxiliary_loss)
    assert overlay().belief is None and "tok_entropy" not in overlay()(**batch(0)).info


def test_the_ranking_loss_of_an_action_blind_scorer_is_log_two():
    ptr = overlay()
    with torch.no_grad():
        ptr.scorer.hidden.weight[:, DIM:] = 0
    assert ptr(**batch(0)).info["loss_rank"] == pytest.approx(math.log(2), abs=1e-6)
    assert overlay()(**batch(0)).info["loss_rank"] != pytest.approx(math.log(2), abs=1e-3)


def test_one_valid_sample_has_nothing_to_rank_against():
    valid = torch.zeros(SIZE, dtype=torch.bool)
    valid[4] = True
    out = overlay()(**batch(0, valid=valid))
    assert math.isnan(out.info["loss_rank"]) and out.info["loss_id"] == 0 and math.isnan(out.info["nce_acc"])
    assert (out.weight == 1).all()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_target_that_is_no_number_counts_as_not_recorded(broken):
    """The steps to come are those of a run in which it was not recorded: it does not enter the queue."""
    ptr, twin = overlay(), overlay()
    inputs = batch(0, valid=torch.ones(SIZE, dtype=torch.bool))
    inputs["targets"][3, 2] = broken
    recorded = torch.arange(SIZE) != 3
    for seed, given, known in ((0, inputs, recorded), (1, batch(1), batch(1)["valid"])):
        out, expected = ptr(**given), twin(**given | {"valid": known})
        assert torch.equal(out.score, expected.score) and torch.equal(out.weight, expected.weight), seed
        assert torch.equal(out.auxiliary_loss, expected.auxiliary_loss) and out.auxiliary_loss.isfinite()
        assert out.info["valid_ratio"] == pytest.approx(known.float().mean().item())
        ptr.after_step()
        twin.after_step()
    assert ptr.pool.queue().features.isfinite().all()


def test_nothing_valid_at_all():
    ptr = overlay(log_every=1)
    inputs = batch(0, valid=torch.zeros(SIZE, dtype=torch.bool), targets=torch.full((SIZE, DIM), torch.nan),
                   context=torch.randn(SIZE, DIM, requires_grad=True))
    out = ptr(**inputs)
    (out.weighted_mean(inputs["context"].sum(1)) + out.auxiliary_loss).backward()
    ptr.after_step()
    assert out.auxiliary_loss.item() == 0 and (out.weight == 1).all() and ptr.pool.filled == 0
    assert inputs["context"].grad.isfinite().all()
    assert ptr.controller.tau == CONFIG.tau and ptr.controller.valid_ratio == 0


def test_the_offset_discounts_the_identification_loss_only():
    plain = overlay()(**batch(0))
    discounted = overlay(dataclasses.replace(CONFIG, gamma=0.5))
    out = discounted(**batch(0), offset=torch.full((SIZE,), 2 * CONFIG.base_policy.chunk_length))
    assert out.info["loss_id"] == pytest.approx(0.25 * plain.info["loss_id"], rel=1e-5)
    assert out.info["loss_rank"] == pytest.approx(plain.info["loss_rank"], rel=1e-5)
    torch.testing.assert_close(out.weight, plain.weight)
    with pytest.raises(ValueError, match="pass offset="):
        discounted(**batch(0))


def test_the_queue_fills_after_the_step_and_not_before():
    ptr = overlay()
    inputs = batch(0)
    ptr(**inputs)
    assert ptr.pool.filled == 0
    ptr.after_step()
    assert ptr.pool.filled == inputs["valid"].sum()
    for seed in range(9):  # several forward passes in one step, more than the queue holds
        ptr(**batch(seed))
    ptr.after_step()
    assert ptr.pool.filled == 32 and not ptr.pending


def test_the_controller_acts_every_logging_step_on_all_samples_since():
    ptr = overlay(log_every=3)
    accuracy, count = 0.0, 0
    for seed in range(3):
        assert math.isnan(ptr.controller.accuracy)
        info = ptr(**batch(seed, valid=torch.ones(SIZE, dtype=torch.bool))).info
        accuracy, count = accuracy + SIZE * info["nce_acc"], count + SIZE
        ptr.after_step()
    assert ptr.controller.accuracy == pytest.approx(accuracy / count)
    assert (ptr.window == 0).all()


def test_eval_mode_remembers_nothing():
    ptr = overlay()
    ptr(**batch(0))
    ptr.after_step()
    ptr.eval()
    before = copy.deepcopy(ptr.state_dict())
    first, second = ptr(**batch(1)), ptr(**batch(1))
    assert torch.equal(first.score, second.score) and not ptr.pending
    assert_equal(ptr.state_dict(), before)


def assert_equal(ours: dict, theirs: dict) -> None:
    """Bitwise, nested state."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, dict):
            assert_equal(value, theirs[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(nan=-99.0), theirs[name].nan_to_num(nan=-99.0)), name
        else:
            assert value == theirs[name], name


class Run:
    """A toy policy with the overlay and an optimiser."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.tower = nn.Linear(5, DIM)
        self.ptr = overlay(vision_tower=self.tower, belief_dim=DIM, log_every=2)
        self.optimizer = torch.optim.AdamW([*self.tower.parameters(), *parameters(self.ptr)], lr=1e-2)

    def step(self, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(SIZE, 5, generator=generator)
        inputs = batch(seed)
        inputs["context"] = self.tower(images)
        inputs["targets"] = self.ptr.encode_targets(torch.randn(SIZE, 5, generator=generator))
        tokens = inputs["action_tokens"] + inputs["context"][:, None]
        inputs["action_tokens"] = tokens
        out = self.ptr(**inputs, belief=self.ptr.belief(tokens, tokens))
        loss = out.weighted_mean(inputs["context"].square().sum(1)) + out.auxiliary_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.ptr.after_step(self.tower)
        return loss.item()

    def state(self) -> dict:
        return {"ptr": self.ptr.state_dict(), "tower": self.tower.state_dict(),
                "optimizer": self.optimizer.state_dict()}


def test_a_restored_run_continues_bitwise(tmp_path):
    run = Run()
    for seed in range(7):
        run.step(seed)
    torch.save(run.state(), tmp_path / "checkpoint.pt")
    losses = [run.step(seed) for seed in range(7, 15)]
    restored = Run()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    restored.ptr.load_state_dict(state["ptr"])
    restored.tower.load_state_dict(state["tower"])
    restored.optimizer.load_state_dict(state["optimizer"])
    assert [restored.step(seed) for seed in range(7, 15)] == losses
    assert_equal(restored.ptr.state_dict(), run.ptr.state_dict())
    assert run.ptr.step == 15 and run.ptr.pool.filled == 32


def test_bfloat16_features_and_autocast_give_float32_scores():
    ptr = overlay()
    inputs = batch(0)
    half = inputs | {name: inputs[name].bfloat16() for name in ("context", "action_tokens", "targets")}
    expected = ptr.eval()(**inputs)
    for out in (ptr(**half), autocast(ptr, inputs)):
        assert out.score.dtype == out.weight.dtype == torch.float32
        torch.testing.assert_close(out.score, expected.score, atol=0.15, rtol=0.05)


def test_an_equal_target_is_no_negative_under_autocast_either():
    features = torch.nn.functional.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    twins = torch.cat([features[:1], features])  # the first two are one
    rows = Targets.of(twins, torch.ones(5, dtype=torch.bool), torch.arange(5))
    pool = CandidatePool(16, CONFIG)
    plain = pool.candidates(rows)
    with torch.autocast("cpu", torch.bfloat16):
        half = pool.candidates(rows)
    assert torch.equal(plain.mask, half.mask) and plain.mask[0].sum() == 4  # its own and three others


def autocast(ptr: PosteriorTransitionReweighting, inputs: dict) -> PTROutput:
    with torch.autocast("cpu", torch.bfloat16):
        return ptr(**inputs)


def test_padding_samples_can_be_left_out_of_the_weighted_mean():
    out = overlay()(**batch(0))
    present = torch.arange(SIZE) < 7
    loss = torch.rand(SIZE)
    expected = (out.weight * loss)[:7].sum() / out.weight[:7].sum()
    torch.testing.assert_close(out.weighted_mean(loss, present), expected)
    loss[8] = torch.nan  # a mean over the steps of a sample that has none
    torch.testing.assert_close(out.weighted_mean(loss, present), expected)


@pytest.mark.parametrize(("changes", "message"), [
    ({"queue_size": 0}, "queue_size must be 1 or more, got 0; queue_negatives=0 leaves the queue out"),
    ({"queue_negatives": -1}, "queue_negatives must be 0 or more, got -1"),
    ({"hard_accuracy_low": 0.5}, r"hard_accuracy_low \(0.5\) must be below hard_accuracy_high \(0.5\)"),
    ({"beta": 4.0}, r"beta \(4.0\) must lie in \[beta_min, beta_max\] = \[0.5, 3.0\], where .*")])
def test_settings_that_cannot_work_are_refused_when_the_overlay_is_made(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        PosteriorTransitionReweighting(DIM, DIM, DIM, PTRConfig(**changes))
    with pytest.raises(ValueError, match="^log_every must be 1 or more, got 0$"):
        PosteriorTransitionReweighting(DIM, DIM, DIM, log_every=0)


def test_losses_of_a_batch_without_any_target_are_logged_as_none():
    info = overlay()(**batch(0) | {"valid": torch.zeros(SIZE, dtype=torch.bool)}).info
    assert math.isnan(info["loss_id"]) and math.isnan(info["loss_rank"]) and info["valid_ratio"] == 0


@pytest.mark.parametrize(("changes", "message"), [
    ({"targets": torch.zeros(DIM)}, r"targets \(B, 6\)"),
    ({"targets": torch.zeros(3, DIM)}, "as long as context"),
    ({"context": torch.zeros(SIZE, 5)}, "^the width of context is 5 and the overlay was constructed with context_dim=6;"
     " make both the same$"),
    ({"action_tokens": torch.zeros(SIZE, STEPS, 2)}, "the width of action_tokens is 2 and .* with action_dim=6; make"),
    ({"targets": torch.zeros(SIZE, 3)}, "the width of targets is 3 and .* with target_dim=6; make"),
    ({"action_tokens": torch.zeros(SIZE, DIM)}, "action_tokens"),
    ({"valid": torch.ones(3, dtype=torch.bool)}, "as long as context"),
    ({"valid": torch.ones(SIZE)}, "valid must be a bool tensor"),
    ({"valid": torch.ones(SIZE, 1, dtype=torch.bool)}, r"valid must have one value per sample, shape \(10,\), got"),
    ({"episode_ids": torch.zeros(SIZE, 1)}, "episode_ids must have one value per sample"),
    ({"frames": torch.zeros(3)}, r"frames must have one value per sample, shape \(10,\), got \(3,\)"),
    ({"tasks": torch.zeros(SIZE, 2)}, "tasks must have one value per sample"),
    ({"offset": torch.zeros(1)}, "offset must have one value per sample"),
    ({"state": torch.zeros(SIZE)}, r"state must have shape \(10, n\), got \(10,\)"),
    ({"step_mask": torch.ones(SIZE, 1, dtype=torch.bool)}, r"step_mask must have shape \(10, 4\), as action_tokens")])
def test_what_does_not_fit_is_refused_in_a_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        overlay()(**batch(0) | changes)


def test_a_target_encoder_wants_its_tower_and_its_images():
    ptr = overlay(vision_tower=nn.Linear(3, DIM))
    with pytest.raises(ValueError, match="after_step needs the vision tower"):
        ptr.after_step()
    with pytest.raises(ValueError, match="no target encoder"):
        overlay().encode_targets(torch.zeros(1, 3))
    other = overlay(vision_tower=nn.Linear(3, 4))
    for valid in (None, torch.ones(1, dtype=torch.bool)):
        with pytest.raises(ValueError, match="the width of vision_tower's features is 4 and .* with target_dim=6"):
            other.encode_targets(torch.zeros(1, 3), valid)


def test_learning_tells_good_consequences_from_arbitrary_ones():
    """Half of the samples have targets that follow from context and action; the others' are random."""
    torch.manual_seed(0)
    ptr = overlay(dataclasses.replace(CONFIG, warmup_steps=100))
    optimizer, mixing = torch.optim.Adam(ptr.scorer.parameters(), lr=3e-3), torch.randn(2 * DIM, DIM)
    for step in range(250):
        context, tokens = torch.randn(64, DIM), torch.randn(64, STEPS, DIM)
        good = torch.arange(64) % 2 == 0
        follows = torch.tanh(torch.cat([context, tokens.mean(1) * 2], 1) @ mixing)
        targets = torch.where(good[:, None], follows, torch.randn(64, DIM))
        out = ptr(context, tokens, targets, torch.ones(64, dtype=torch.bool), torch.arange(64) + 64 * step)
        optimizer.zero_grad()
        out.auxiliary_loss.backward()
        optimizer.step()
        ptr.after_step()
    assert out.weight[good].mean() > 1.5 * out.weight[~good].mean()
    assert out.score[good].mean() > 0.5 > 0 > out.score[~good].mean()
