"""Manifests of small official checkpoints."""

from __future__ import annotations

MANIFESTS = {
    "mini": """
name = "mini"
family = "mwmae"
summary = "s"
status = "unpublished"
sample_rate = 16000
dims = 120
licence = "not stated"
configuration = { encoder_width = 24, encoder_depth = 2, encoder_heads = 3, decoder_width = 16, decoder_depth = 2 }
[original]
address = "https://drive.google.com/drive/folders/1tM723MLFJRaWVmLVjE49pJ0Yi3lpMZHV"
folder = "mwmae_mini_run1"
format = "Flax MessagePack: checkpoint_<step> beside config.json"
""",
    "msm-mini": """
name = "msm-mini"
family = "msm_mae"
summary = "s"
status = "unpublished"
sample_rate = 16000
dims = 160
licence = "NTT evaluation licence: internal evaluation only"
[configuration]
width = 32
depth = 2
heads = 4
decoder_width = 24
decoder_depth = 2
decoder_heads = 3
frames_per_unit = 208
[original]
address = "https://github.com/nttcslab/msm-mae/releases"
folder = "80x208p16x16_mini"
format = "torch: checkpoint-100.pth in the folder, perhaps packed as a zip"
""",
}
