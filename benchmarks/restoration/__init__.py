"""Scoring restored images against originals (PSNR, SSIM, PSNR-B), rate-distortion curves, and what restorers cost.

Needs neither OpenMMLab nor OpenCV.
"""
