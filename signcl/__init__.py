"""signcl: gloss-free sign language translation, its contrastive loss (SignCL) and its density analysis."""
