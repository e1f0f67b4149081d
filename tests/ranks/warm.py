"""What the process that ranks are forked from has loaded."""

import palate.distributed.group
import palate.pipeline.execute
import palate.stages.direct
import palate.stages.online
import palate.stages.sft
import tests.ranks.learning

__all__ = ["palate", "tests"]
