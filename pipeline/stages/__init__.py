"""Steps that several jobs share: the engine, describing, the motion window, key frames, the fit."""
