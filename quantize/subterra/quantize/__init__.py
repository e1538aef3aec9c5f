"""Turn a merged model into shipped variants: export, quantization, divergence, report, sealing."""
