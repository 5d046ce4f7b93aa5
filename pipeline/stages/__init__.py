"""Steps that several jobs share: engine, describe, motion window, key frames, fit, refinement"""
