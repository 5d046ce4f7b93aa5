"""Dense ViT descriptors and saliency; the only user of timm."""
