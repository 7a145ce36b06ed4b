"""Training: (spec, folder) -> (folder, events)."""

import logging

# PEFT imports bitsandbytes where it is installed, which warns of a kernel that is not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
