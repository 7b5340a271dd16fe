"""Motion-compensated MR reconstruction: encoding, warps with exact transposes, the solve and its gradients."""
