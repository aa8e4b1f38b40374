"""Explain: attention, Grad-CAM, feature maps, correlation and precision: what a network looks at."""

from regard.explain.attention import Attention, attention_of
from regard.explain.attention_precision import attention_mass, measure_precision
from regard.explain.correlation import Correlation, correlate
from regard.explain.features import feature_maps
from regard.explain.figures.map_grids import paper_sheet
from regard.explain.gradcam import attention_layers, class_cam, similarity_cam
from regard.explain.heads import exact_cam, head_heat, pair_heat

__all__ = [
    "Attention",
    "Correlation",
    "attention_layers",
    "attention_mass",
    "attention_of",
    "class_cam",
    "correlate",
    "exact_cam",
    "feature_maps",
    "head_heat",
    "measure_precision",
    "pair_heat",
    "paper_sheet",
    "similarity_cam",
]
