"""Video deblurring with convolution weights that depend on the motion at each pixel.

Follows a published system; docs/claims.md, section 3, leads from each claimed element to the function here. Related
work: STFAN (Zhou et al., ICCV 2019).
"""
