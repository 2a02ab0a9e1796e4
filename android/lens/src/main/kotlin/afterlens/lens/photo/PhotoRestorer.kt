package afterlens.lens.photo

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.Contract
import afterlens.core.Fault
import afterlens.core.Picture
import afterlens.core.TensorSpec
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Restorer
import afterlens.lens.runtime.TfliteRestorer
import kotlin.math.round

/**
 * Restores photos of any size with artifacts of fixed sizes, as `afterlens restore --runtime tflite` does: fitted into
 * the artifact that shrinks it least, and the change that the network made added to the photo, whose detail remains.
 *
 *     val restored = PhotoRestorer(bundle).restore(photo)
 */
class PhotoRestorer(
    private val bundle: BundleCheck,
    private val open: (BundleCheck, Artifact) -> Restorer = { checked, artifact ->
        TfliteRestorer.onCpu(checked, artifact, threads = 4)
    },
) {
    private val artifacts = bundle.contract.mostPrecise()

    /** Takes seconds. [photo] and the result hold sRGB from 0 to 1. Throws a [Fault] for a bundle that cannot do it. */
    fun restore(photo: Picture): Picture = ModelThread("photo").use { thread ->
        val fit = PhotoFit.choose(artifacts, photo.width, photo.height)
        val turned = if (fit.turned) photo.turned() else photo
        val width = round(turned.width * fit.scale).toInt().coerceIn(1, fit.artifact.width)
        val height = round(turned.height * fit.scale).toInt().coerceIn(1, fit.artifact.height)
        val small = turned.resized(width, height)
        val filled = small.padded(fit.artifact.width, fit.artifact.height)
        val restored = thread.call { open(bundle, fit.artifact).use { run(it, filled) } }
        val change = change(restored, small).resized(turned.width, turned.height)
        added(photo, if (fit.turned) change.turnedBack() else change)
    }

    /** Each input gets the photo: a network that wants the frame before gets the same one, as at a clip's start. */
    private fun run(restorer: Restorer, picture: Picture): Picture {
        for (input in restorer.artifact.inputs) {
            val floats = restorer.input(input.name).asFloatBuffer()
            for (value in picture.values) floats.put(input.low.toFloat() + value * input.span)
        }
        restorer.run()
        val output = restorer.artifact.outputs.first()
        val floats = restorer.output(output.name).asFloatBuffer()
        val values = FloatArray(picture.values.size) { (floats.get() - output.low.toFloat()) / output.span }
        return Picture(picture.width, picture.height, values)
    }

    private fun change(restored: Picture, small: Picture): Picture {
        val (left, above) = (restored.width - small.width) / 2 to (restored.height - small.height) / 2
        val values = FloatArray(small.values.size)
        for (y in 0 until small.height) for (at in 0 until small.width * 3) {
            val index = y * small.width * 3 + at
            values[index] = restored.values[((y + above) * restored.width + left) * 3 + at] - small.values[index]
        }
        return Picture(small.width, small.height, values)
    }

    private fun added(photo: Picture, change: Picture) = Picture(
        photo.width, photo.height, FloatArray(photo.values.size) { (photo.values[it] + change.values[it]).coerceIn(0f, 1f) },
    )
}

private val TensorSpec.span get() = (high - low).toFloat()

/** One float32 TFLite artifact a size, the most precise. Throws a [Fault] where none restores pictures. */
private fun Contract.mostPrecise(): List<Artifact> = artifacts
    .filter { artifact ->
        val pictures = (artifact.inputs + artifact.outputs.first()).all { it.kind == "image" && it.dtype == "float32" }
        artifact.format == "tflite" && artifact.variant in PRECISE && pictures
    }
    .groupBy { it.width to it.height }
    .map { (_, variants) -> variants.minBy { PRECISE.indexOf(it.variant) } }
    .ifEmpty { throw Fault("$task: no TFLite artifact that makes a picture from a picture") }

private val PRECISE = listOf(
    "float32", "float16", "integer_quant_with_int16_act", "dynamic_range_quant", "mixed", "full_integer_quant",
)
