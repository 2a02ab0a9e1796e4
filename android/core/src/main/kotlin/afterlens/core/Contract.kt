package afterlens.core

/** All of a bundle's model.json (conversion/bundle/contract.schema.json). Apps hold no constants of their own. */
data class Contract(
    val task: String,
    val title: String,
    val version: String,
    val artifacts: List<Artifact>,
    val golden: List<GoldenFile>,
    val proof: Proof?,
    val camera: CameraFrame = CameraFrame.NotSaid,
)

/** Which of a camera's frames a network may get. */
sealed interface CameraFrame {
    /** Any, scaled. */
    data object Scaled : CameraFrame

    /** The middle of one of this size, unscaled and in the sensor's orientation: what it removes has a fixed number of pixels. */
    data class Exact(val size: Size) : CameraFrame

    /** The bundle is older than this question. */
    data object NotSaid : CameraFrame
}

/** One converted file of one fixed size. */
data class Artifact(
    override val file: String,
    val format: String, // "tflite" or "coreml"
    val variant: String,
    val width: Int, // pixels
    val height: Int,
    override val sha256: String,
    override val bytes: Long,
    val minimumRuntime: String,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
    val parameters: Long,
    val macs: Long,
    val selfTestFloor: Double? = null, // dB that a device must reach on the golden inputs; null where none is given
) : BundleEntry {
    /** Whether a camera can feed it: with its frame, or with that and the one before it. Other pictures it does not have. */
    val isLive: Boolean
        get() = (inputs + outputs.first()).all { it.kind == "image" } &&
            (inputs.size == 1 || inputs.size == 2 && inputs[1].name == "previous")
}

/** One input or output, bound by its name in the signature [SIGNATURE]. */
data class TensorSpec(
    val name: String,
    val shape: List<Int>,
    val layout: String, // "NHWC", "array" for what is no picture, or "image" in Core ML files
    val dtype: String,
    val low: Double, // smallest and largest value
    val high: Double,
    val colourSpace: String,
    val meaning: String,
    val kind: String = "image", // or "vector" or "class"
)

/** A real input, or what PyTorch made of it in float32. */
data class GoldenFile(
    override val file: String,
    val role: String, // "input" or "output"
    val tensor: String,
    val encoding: String, // "png": 8-bit RGB, value / 255; "float32": little-endian, in C order
    val shape: List<Int>, // of a picture: height, width, 3
    override val sha256: String,
    override val bytes: Long,
) : BundleEntry

/** What `afterlens verify` found, in short. */
data class Proof(val passed: Boolean, val images: Int, val results: List<ProofResult>)

/** The worst case of one artifact against PyTorch: largest error in units of [0, 1], and PSNR in dB. */
data class ProofResult(val file: String, val passed: Boolean, val maxError: Double, val psnr: Double)

/** A file that model.json names, with its digest. */
sealed interface BundleEntry {
    val file: String
    val sha256: String
    val bytes: Long
}

/** The signature of every TFLite file. */
const val SIGNATURE = "serving_default"
