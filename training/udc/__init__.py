"""Under-display camera restoration: photos taken through a display, by a PSF-based synthesis and an encoder-decoder.

Follows a published system; docs/claims.md, section 1, leads from each claimed element to the function here. Image
formation and network after Zhou et al., *Image Restoration for Under-Display Camera* (CVPR 2021).
"""
