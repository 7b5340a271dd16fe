"""Convolutions that commute with rotations or mirroring, as plain layers on plain tensors."""
