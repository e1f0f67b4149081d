"""torchrun, with the seconds that it gives ranks to end by themselves: `patient_torchrun.py SECONDS WORDS_OF_TORCHRUN...`.

Its own `--shutdown-timeout` counts only where torchrun itself gets a signal. Where a rank has failed, torch 2.13 kills the others after
30 s. That is too little on a busy machine, and too much where a rank hangs.
"""

from __future__ import annotations

import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import PContext

seconds = int(sys.argv[1])
end_ranks = PContext.close


def close(context: PContext, death_sig: signal.Signals | None = None, timeout: int = 30) -> None:
    """Ends the ranks as torch does, in another time than its own."""
    end_ranks(context, death_sig, seconds if timeout else timeout)


if __name__ == "__main__":
    PContext.close = close  # type: ignore[method-assign]
    run.main(sys.argv[2:])
