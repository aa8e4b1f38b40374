"""Explain: attention, Grad-CAM, feature maps, correlation, precision, ranked lists, charts, the report page."""

from regard.explain.attention import Attention, attention_of
from regard.explain.correlation import Correlation, correlate
from regard.explain.features import feature_maps
from regard.explain.gradcam import attention_layers, class_cam, similarity_cam
from regard.explain.heads import exact_cam, head_heat, pair_heat
from regard.explain.paper_sheet import paper_sheet
from regard.explain.precision import attention_mass, measure_precision
from regard.explain.ranked import RankedList, pick_queries, ranked_lists
from regard.explain.report import Command, Evaluation, HeatMaps, Report, write_report

__all__ = [
    "Attention",
    "Command",
    "Correlation",
    "Evaluation",
    "HeatMaps",
    "RankedList",
    "Report",
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
    "pick_queries",
    "ranked_lists",
    "similarity_cam",
    "write_report",
]
