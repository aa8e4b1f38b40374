"""Report: the pages about runs: scores, curves, ranked lists, failures, attention; and what they are made of."""

from regard.report.answers import answers
from regard.report.camera_pairs import camera_pair_table
from regard.report.embedding_map import EmbeddingMap, embedding_map
from regard.report.findings import SECTIONS, gather
from regard.report.ranked import Failure, RankedList, hardest, pick_queries, ranked_lists
from regard.report.ranked_figure import ranked_figure
from regard.report.runs_page import Command, RunFindings, RunsReport, render_runs, write_runs

__all__ = [
    "SECTIONS",
    "Command",
    "EmbeddingMap",
    "Failure",
    "RankedList",
    "RunFindings",
    "RunsReport",
    "answers",
    "camera_pair_table",
    "embedding_map",
    "gather",
    "hardest",
    "pick_queries",
    "ranked_figure",
    "ranked_lists",
    "render_runs",
    "write_runs",
]
