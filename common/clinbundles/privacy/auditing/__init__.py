"""Tests of the guarantee itself: what an attacker with the weights, or with every update, can prove."""
