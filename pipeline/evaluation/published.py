"""Published results to compare with: the paper's Tables 1-4 and later work, in per cent.

The paper is Amir et al., "Deep ViT Features as Dense Visual Descriptors".
"""

from __future__ import annotations

PAPER = "paper"

CUB = {
    "key-point error CUB-01": {PAPER: 17.1, "DFF": 22.4, "SCOPS": 18.3, "Choudhury et al.": 11.3},
    "key-point error CUB-02": {PAPER: 14.7, "DFF": 21.6, "SCOPS": 17.7, "Choudhury et al.": 15.0},
    "key-point error CUB-03": {PAPER: 19.6, "DFF": 22.0, "SCOPS": 17.0, "Choudhury et al.": 10.6},
    "FG-NMI": {PAPER: 39.4, "DFF": 32.4, "SCOPS": 39.1, "Choudhury et al.": 46.0},
    "FG-ARI": {PAPER: 19.2, "DFF": 14.3, "SCOPS": 17.9, "Choudhury et al.": 21.0},
    "NMI": {PAPER: 38.9, "DFF": 25.9, "SCOPS": 24.4, "Choudhury et al.": 43.5},
    "ARI": {PAPER: 16.1, "DFF": 12.4, "SCOPS": 7.1, "Choudhury et al.": 19.6},
}
"""Table 1, k = 4; SCOPS and Choudhury et al. train with foreground masks."""

COSEG = {
    "MSRC": (86.7, 96.5),
    "Internet300": (79.5, 94.6),
    "PASCAL-VOC": (60.7, 88.2),
    "PASCAL-CO": (79.5, 94.7),
}
"""Table 2: mean Jaccard index and mean precision."""

FACETS = {
    "key": (79.5, 94.7),
    "token": (69.2, 90.68),
    "query": (72.7, 91.7),
    "value": (49.2, 83.3),
    "DINO ViT attention": (75.0, 93.1),
    "DINO ResNet-50": (37.7, 78.1),
    "supervised ViT attention": (39.9, 69.7),
    "supervised ResNet-50": (40.0, 78.9),
}
"""Table 3, PASCAL-CO: mean Jaccard index and mean precision; facets of the last layer."""

SPAIR = {
    (9, "key", True): 56.48,
    (9, "query", True): 54.96,
    (9, "value", True): 52.33,
    (9, "token", True): 56.03,
    (11, "key", True): 53.45,
    (11, "query", True): 52.35,
    (11, "value", True): 49.37,
    (11, "token", True): 50.34,
    (9, "key", False): 52.27,
    (9, "query", False): 49.35,
    (9, "value", False): 43.97,
    (9, "token", False): 50.14,
    (11, "key", False): 47.08,
    (11, "query", False): 42.64,
    (11, "value", False): 41.56,
    (11, "token", False): 46.09,
}
"""Table 4: PCK@0.1 on 360 pairs, by layer, facet and log-binning."""

SPAIR_LATER = {"GeoAware-SC, zero-shot": 65.4, "supervised": 85.6}
"""PCK@0.1 of the bounding box over all test pairs, per point."""

DAVIS_2016 = {"J mean": {"TokenCut": 76.7}}
"""Unsupervised, with a CRF (Wang et al.); the paper reports no result."""
