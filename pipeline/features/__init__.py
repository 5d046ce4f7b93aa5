"""Dense ViT descriptors, saliency, motion and flow; the only user of timm and OpenVINO"""
