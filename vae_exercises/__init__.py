"""The checks of the exercises, and what students need beside them."""
