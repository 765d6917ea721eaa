"""The one training engine: a thin layer on `accelerate` under CPT, SFT and RL.

One call of `step` is one optimiser step: count denominators over all micro-batches and ranks, accumulate gradients,
refuse what is not finite, clip, set the learning rate, update. Plain CPU, one GPU, DDP, DeepSpeed ZeRO 1/2/3 and FSDP2 alike.

Numbers: with `bf16` the trainable weights are kept in fp32 and the forward runs under autocast (under DeepSpeed its own
fp32 master weights do that); with `fp32` everything is fp32.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from factory.config.schema import OptimConfig
from factory.errors import Interrupted, TrainingError
from factory.stages import checkpoint as ck
from factory.stages import fully_sharded as fs
from factory.stages.agreement import agree
from factory.stages.engine_state import SplitState, read_whole, write_whole
from factory.stages.metrics import FILE_NAME, truncate_metrics
from factory.stages.objectives import Filler, Objective
from factory.stages.processes import make_accelerator, sum_maps
from factory.stages.roll_call import RollCall
from factory.stages.schedule import freeze_what_is_asked, lr_factor, param_groups, set_lr
from factory.stages.setbacks import Setbacks
from factory.stages.stopping import forget, is_asked_to_stop
from factory.stages.zero_state import ZeroState

if TYPE_CHECKING:
    from factory.contracts import RunContext
    from factory.stages.models.load import LoadedModel

log = logging.getLogger(__name__)


class Learner:
    """Owns the optimiser of one model, its schedule, its checkpoints and the processes it is spread over.

    Args:
        loaded: the model to train (in place) with its codec.
        optim: learning rate, schedule, clipping, freezing.
        total_steps: length of the schedule, in optimiser steps.
        workdir: of the stage; holds `checkpoints/` and `metrics.jsonl`.
        seed: of the global generators; each rank adds its number.
        precision: `fp32` or `bf16`.
        zero_stage: DeepSpeed ZeRO 1, 2 or 3; -1 and 0 mean plain DDP (ZeRO 0 shards nothing).
        fsdp: split weights, gradients and optimiser with torch's FSDP2 instead.
        deepspeed: its template or file, see deepspeed_config.py; empty: the plain one of the ZeRO stage.
    """

    def __init__(
        self, loaded: LoadedModel, optim: OptimConfig, total_steps: int, workdir: Path, seed: int, precision: str = "fp32",
        *, zero_stage: int = -1, fsdp: bool = False, deepspeed: str = "", nvme_path: str = "", collective_timeout_s: float = 1800.0,
    ) -> None:  # fmt: skip
        self.loaded, self.optim, self.total_steps, self._is_fsdp = loaded, optim, total_steps, fsdp
        self._workdir, self._precision, self._zero_stage = Path(workdir), str(getattr(precision, "value", precision)), zero_stage
        lr_factor(0, total_steps, optim)  # a wrong schedule is refused before anything is built
        self.setbacks = Setbacks(optim, self._workdir / "checkpoints")
        self._accelerator = make_accelerator(
            zero_stage, self._precision, optim, fsdp=fsdp, template=deepspeed, nvme_path=nvme_path
        )
        self._roll_call = RollCall(self._workdir, self.rank, self.world_size, collective_timeout_s)
        ck.seed_everything(seed + self.rank)
        self._steps_done = 0
        self._prepare(loaded.model)

    @classmethod
    def from_context(cls, loaded: LoadedModel, optim: OptimConfig, total_steps: int, ctx: RunContext) -> Learner:
        """A Learner with the precision and the launch settings of the build."""
        launch = ctx.build.get("launch", {})
        precision = ctx.build.get("precision", "fp32")
        return cls(
            loaded, optim, total_steps, ctx.workdir, ctx.seed, precision, zero_stage=int(launch.get("zero_stage", -1)),
            fsdp=bool(launch.get("fsdp", False)), deepspeed=str(launch.get("deepspeed", "")), nvme_path=str(launch.get("nvme_path", "")),
            collective_timeout_s=float(launch.get("collective_timeout_s", 1800.0)),
        )  # fmt: skip

    def _prepare(self, model: nn.Module) -> None:
        freeze_what_is_asked(model, self.optim)
        if self.optim.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if not self.is_deepspeed:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    # AdamW updates below bf16's resolution would be lost, so what learns is kept in fp32.
                    parameter.data = parameter.data.float()
        if self._is_fsdp:
            fs.shard(model, self.device, self.world_size, precision=self._precision)
        groups = param_groups(model.named_parameters(), self.optim)
        # Fused: one pass over weights, gradients and moments in place of seven. Measured on a CPU: a fifth to a tenth of the time.
        adamw = torch.optim.AdamW(groups, lr=self.optim.lr, betas=(self.optim.beta1, self.optim.beta2), fused=True)
        prepare = self._accelerator.prepare
        self._wrapped, self._optimizer = (model, prepare(adamw)) if self._is_fsdp else prepare(model, adamw)
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]

    @property
    def is_deepspeed(self) -> bool:
        """True when ZeRO 1, 2 or 3 shards the optimiser."""
        return self._zero_stage >= 1

    @property
    def is_split(self) -> bool:
        """True when the processes must run the same layers equally often, and checkpoints are put together from all of them."""
        return self.is_deepspeed or self._is_fsdp

    def _split_state(self) -> SplitState:
        return fs.FullyShardedState(self._optimizer) if self._is_fsdp else ZeroState(self._wrapped)

    @property
    def model(self) -> nn.Module:
        """The bare model (no DDP or DeepSpeed wrapper): for generation, reference log-probs and saving."""
        return self.loaded.model

    @property
    def device(self) -> torch.device:
        """Where batches must be."""
        return self._accelerator.device

    @property
    def max_context(self) -> int:
        """Longest row that the model's positions allow, tokens."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def rank(self) -> int:
        """Number of this process, 0-based."""
        return self._accelerator.process_index

    @property
    def world_size(self) -> int:
        """How many processes step together."""
        return self._accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """True in the one process that logs and writes."""
        return self._accelerator.is_main_process

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order, on every rank. The value must pickle. Raises TrainingError when a rank does not come."""
        self._roll_call.call()
        return gather_object([value]) if self.world_size > 1 else [value]

    def enter(self, phase: str) -> None:
        """Say what this process does from now on; it is what the others read of one that does not come."""
        self._roll_call.enter(phase)

    def wait(self) -> None:
        """Return when every rank has come here. Raises TrainingError, naming rank and phase, when one does not."""
        self._roll_call.call()
        self._accelerator.wait_for_everyone()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The number format of a training forward; use it too for log-probs that are compared with the trained ones."""
        if self._precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def step(
        self, micro_batches: Sequence[Any], objective: Objective, *, allows: Callable[[float], bool] | None = None
    ) -> dict[str, float]:
        """One optimiser step on this rank's micro-batches; the same figures come back on every rank.

        A rank without rows of its own passes a `Filler`. `allows`: gradient norm -> whether the step is taken; a refused step
        leaves weights and optimiser as they were, counts in the schedule, and is reported as `skipped` = 1.

        Returns:
            `loss` (of the whole step), `lr` (peak group), `grad_norm` (before clipping, over all ranks), the totals of
            `objective.counts` and the sums of its metrics. A step that must not be taken (see setbacks.py) left the weights as
            they were: it has `bad_steps` = 1, and what is not finite is left out.

        Raises:
            RolledBack: too many bad steps in a row; the stage goes on from its last checkpoint.
            TrainingError: that happened too often; the weights are as before the step.
        """
        self.enter(f"update {self._steps_done + 1} of {self.total_steps}: forward and backward")
        totals, num_micro = agree(micro_batches, objective, self.gather, step=self._steps_done + 1, in_lockstep=self.is_split)
        lr = self.optim.lr * lr_factor(self._steps_done, self.total_steps, self.optim) * self.setbacks.lr_scale
        set_lr(self._optimizer.param_groups, lr / self.optim.lr if self.optim.lr else 0.0)
        self.model.train()
        losses: list[Tensor] = []
        sums: dict[str, float] = {}
        for index in range(num_micro):
            # A rank with fewer micro-batches repeats its last one with weight 0, because ZeRO's ranks must march in step.
            batch = micro_batches[min(index, len(micro_batches) - 1)]
            is_filler = index >= len(micro_batches) or isinstance(batch, Filler)
            batch = batch.batch if isinstance(batch, Filler) else batch
            with self._last_or_no_sync(index == num_micro - 1), self.autocast():
                loss, metrics = objective.loss(self._wrapped, batch, totals)
                self._backward(loss * 0.0 if is_filler else loss, is_last=index == num_micro - 1)
            if not is_filler:
                losses.append(loss.detach().float())
                for name, value in metrics.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
        self.model.eval()
        local = {**sums, "loss": float(torch.stack(losses).sum()) if losses else 0.0}
        figures = sum_maps(self.gather(local))
        grad_norm, is_taken, fault = self._update(figures["loss"], allows)
        self._steps_done += 1
        if fault:
            self._set_back(fault)
            told = {**totals, **figures, "lr": lr, "grad_norm": grad_norm, "bad_steps": 1.0}
            return {name: value for name, value in told.items() if math.isfinite(value)}
        self.setbacks.good(grad_norm)
        skipped = {} if allows is None else {"skipped": float(not is_taken)}
        return {**totals, **figures, "lr": lr, "grad_norm": grad_norm, **skipped}

    def _set_back(self, fault: str) -> None:
        try:
            self.setbacks.bad(self._steps_done, self.total_steps, fault, is_main=self.is_main, can_skip=not self.is_deepspeed)
        except TrainingError:
            self.wait()  # the main process has written why; the first to end takes the others with it
            raise

    def reset_optimizer(self) -> None:
        """Forget the optimiser's moments (a new iteration of mirror descent). Not with DeepSpeed.

        Raises:
            TrainingError: under ZeRO, whose optimiser state is sharded.
        """
        if self.is_deepspeed:
            raise TrainingError("the optimiser cannot be reset under DeepSpeed. Set launch.zero_stage=-1.")
        self._optimizer.state.clear()

    def skip(self) -> None:
        """Count an optimiser step that has no rows, so that the schedule stays a function of the step. Call it on every rank."""
        self._steps_done += 1

    @contextlib.contextmanager
    def _last_or_no_sync(self, is_last: bool) -> Iterator[None]:
        if self.is_deepspeed:
            # Both: DeepSpeed reads the flag during forward and backward.
            self._wrapped.set_gradient_accumulation_boundary(is_last)
            yield
        elif self._is_fsdp:
            fs.wait_to_sync(self._wrapped, is_last=is_last)
            yield
        elif is_last:
            yield
        else:
            with self._accelerator.no_sync(self._wrapped):
                yield

    def _backward(self, loss: Tensor, *, is_last: bool) -> None:
        # DDP, FSDP2 and DeepSpeed average over ranks; our shares add up, so undo the division.
        loss = loss * self.world_size
        if self.is_deepspeed:
            # Not accelerator.backward: that would also step, before we have looked at the loss of all ranks.
            self._wrapped.backward(loss)
        else:
            self._accelerator.backward(loss)

    def _update(self, loss: float, allows: Callable[[float], bool] | None) -> tuple[float, bool, str]:
        """Check, clip, update, clear; return the gradient norm before clipping (same on every rank), whether it stepped, what is wrong."""
        if self.is_deepspeed:
            if not math.isfinite(loss):
                return math.nan, False, self.setbacks.fault(loss, 0.0)
            self._wrapped.step()
            norm = float(self._wrapped.get_global_grad_norm())
            return norm, True, self.setbacks.fault(loss, math.inf if self._wrapped.optimizer.overflow else norm)
        gradients = [parameter.grad for parameter in self._trainable if parameter.grad is not None]
        norm_tensor = fs.whole(torch.nn.utils.get_total_norm(gradients))
        norm = float(norm_tensor)
        fault = self.setbacks.fault(loss, norm)
        if fault or (allows is not None and not allows(norm)):
            self._optimizer.zero_grad(set_to_none=True)
            return norm, False, fault
        if self.optim.clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(self._trainable, self.optim.clip_norm, norm_tensor)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm, True, ""

    def save_checkpoint(self, step: int, pieces: Mapping[str, ck.Stateful]) -> Path:
        """Write everything an exact resume needs after `step` optimiser steps; older checkpoints go.

        `pieces` keep a state per rank. Call it on every rank.
        """
        root = self._workdir / "checkpoints"
        own = {"rng": ck.rng_state(), "pieces": {name: dict(piece.state_dict()) for name, piece in pieces.items()}}
        ranks = self.gather(own)
        unfinished = root / f"{ck._UNFINISHED}{step:08d}"
        self.enter(f"the checkpoint of update {step}")
        if self.is_main:
            unfinished = ck.begin_checkpoint(root, step)
            weights = {} if self.is_split else {"weights": dict(self._named()), "optimizer": self._optimizer.state_dict()}
            ck.write_state(unfinished, {"step": step, "ranks": ranks, "setbacks": self.setbacks.state_dict(), **weights})
        self.wait()
        if self.is_split:
            write_whole(unfinished / ck.ENGINE_FOLDER, self._split_state(), self._named(), is_main=self.is_main)
            self.wait()
        if self.is_main:
            ck.keep_copy(self._workdir / FILE_NAME, unfinished)
            ck.finish_checkpoint(unfinished, step)
        self.wait()
        return root / f"{ck._PREFIX}{step:08d}"

    def save_checkpoint_if_due(self, step: int, pieces: Mapping[str, ck.Stateful]) -> bool:
        """`save_checkpoint` every `optim.checkpoint_every` steps (not after the last, which saves the model itself, nor a bad one)."""
        every = self.optim.checkpoint_every
        is_due = every > 0 and step % every == 0 and step < self.total_steps and self.setbacks.is_sound
        if is_due:
            self.save_checkpoint(step, pieces)
        self.stop_if_asked(step, pieces, is_saved=is_due)
        return is_due

    def stop_if_asked(self, step: int, pieces: Mapping[str, ck.Stateful], *, is_saved: bool) -> None:
        """End the stage after a checkpoint when `stopping.ask_to_stop` was called; not after the last step. Call it on every rank.

        Raises:
            Interrupted: the stage is to stop; a checkpoint of `step` is on disk (after a bad step: the last good one).
        """
        if step >= self.total_steps or not self.gather(self.is_main and is_asked_to_stop(self._workdir))[0]:
            return
        if not is_saved and self.setbacks.is_sound:
            self.save_checkpoint(step, pieces)
        if self.is_main:
            forget(self._workdir)
        self.wait()
        raise Interrupted(
            f"stopped after step {step} of {self.total_steps}, as asked; a checkpoint of it is on disk. The same command resumes."
        )

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]

    def resume(self, pieces: Mapping[str, ck.Stateful]) -> int:
        """Take up the newest checkpoint, cut metrics.jsonl to it; return the steps already done (0: none).

        Raises:
            TrainingError: the checkpoint is damaged, of another model, or made with DeepSpeed or FSDP2 and now without (or the reverse).
        """
        found = ck.newest_checkpoint(self._workdir / "checkpoints")
        step, folder = found or (0, None)
        self.setbacks.resume(None)
        if folder is not None:
            damage = self.gather(ck.damage(folder) if self.is_main else "")[0]
            if damage:
                raise TrainingError(damage)
            state = ck.read_state(folder)
            shapes = {name: tuple(parameter.shape) for name, parameter in self._named()}
            ck.check_fit(folder, state, pieces, shapes, is_split=self.is_split)
            self._load_weights(folder, state)
            own = ck.state_of_rank(folder, state["ranks"], self.rank, self.world_size)
            for name, piece in pieces.items():
                piece.load_state_dict(own["pieces"][name])
            if own["rng"] is not None:
                ck.set_rng_state(own["rng"])
            self.setbacks.resume(state["setbacks"])
            log.info("resumed at step %d of %d from %s", step, self.total_steps, folder)
        if self.is_main:
            if folder is not None:
                ck.take_copy(folder, self._workdir / FILE_NAME)
            truncate_metrics(self._workdir / FILE_NAME, step)
        self.wait()
        self._steps_done = step
        return step

    def _load_weights(self, folder: Path, state: Mapping[str, Any]) -> None:
        if self.is_split:
            read_whole(folder / ck.ENGINE_FOLDER, self._split_state(), self._named())
            return
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])

    def save_model(self, out_dir: Path) -> None:
        """Write the trained model folder (main rank; ZeRO 3 and FSDP2 gather the shards first). Call it on every rank."""
        from factory.stages.models.load import save

        weights = fs.whole_weights(self.model, is_main=self.is_main) if self._is_fsdp else None
        with self._whole_weights():
            if self.is_main:
                shutil.rmtree(out_dir, ignore_errors=True)
                save(self.loaded, out_dir, weights=weights)
        self.wait()

    def _whole_weights(self) -> contextlib.AbstractContextManager[Any]:
        if self._zero_stage != 3:
            return contextlib.nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(self.model.parameters()))
