"""Networks in ONNX files, run by onnxruntime on one thread.

Invariant: the same file gives the same features on one machine, whatever else it does.
"""

from ganlab.quality.embeddings.base import EmbeddingError
from ganlab.quality.embeddings.files import FileSettings, Loaded, missing, reason


def load(settings: FileSettings) -> Loaded:
    """Load the network. Raises EmbeddingError for a file that is none, or an output that it does not have."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime", "onnx", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(settings.file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # classes of its own, without a common base
        raise EmbeddingError(f"{settings.file}: got no ONNX model ({reason(error)}); allowed: an .onnx file") from error
    taken, outputs = session.get_inputs(), [each.name for each in session.get_outputs()]
    if len(taken) != 1:
        raise EmbeddingError(f"{settings.file}: got a model of {len(taken)} inputs; allowed: one, the images")
    output = settings.layer or outputs[0]
    if output not in outputs:
        raise EmbeddingError(f"{settings.file}: layer: got {output}; allowed: one of its outputs, {', '.join(outputs)}")
    batch = taken[0].shape[0]
    return Loaded(
        lambda images: session.run([output], {taken[0].name: images})[0], batch if isinstance(batch, int) else None
    )
