"""Explain: Grad-CAM, heat maps, ranked lists, charts, and the report page."""

from regard.explain.gradcam import attention_layers, class_cam, similarity_cam
from regard.explain.ranked import RankedList, pick_queries, ranked_lists
from regard.explain.report import Command, Evaluation, HeatMaps, Report, write_report

__all__ = [
    "Command",
    "Evaluation",
    "HeatMaps",
    "RankedList",
    "Report",
    "attention_layers",
    "class_cam",
    "pick_queries",
    "ranked_lists",
    "similarity_cam",
    "write_report",
]
