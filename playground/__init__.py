"""The app around core/: runs, pages, pictures, the command line."""

import os

# What Apple's GPU cannot compute, the CPU does instead. torch reads this when it is loaded, so it stands here.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
