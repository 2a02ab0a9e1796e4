package afterlens.lens.pipeline

import afterlens.core.Artifact
import afterlens.core.FrameGeometry
import afterlens.core.Picture
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.lens.TestBundles
import afterlens.lens.floats
import afterlens.lens.gl.Frame
import afterlens.lens.gl.upload
import afterlens.lens.runtime.Accelerator
import afterlens.lens.runtime.Processor
import afterlens.lens.runtime.Restorer
import java.nio.ByteBuffer
import java.nio.ByteOrder

internal const val TEXTURE_2D = 0x0DE1
private const val SIDE = 8

/** A model of [SIDE] pixels that hands its input on, after [work]. */
internal class StandIn(private val work: () -> Unit) : Restorer {
    private val tensors = listOf("image", "restored").associateWith {
        ByteBuffer.allocateDirect(SIDE * SIDE * 12).order(ByteOrder.nativeOrder())
    }

    /** The first value of each input. */
    val seen = mutableListOf<Float>()

    override val artifact = small(TestBundles.open("udc").contract.artifacts.first())
    override val accelerator = Accelerator(Processor.CPU, "stand-in")

    override fun input(name: String): ByteBuffer = tensors.getValue(name).apply { rewind() }

    override fun output(name: String): ByteBuffer = tensors.getValue(name).apply { rewind() }

    override fun run() {
        seen += input("image").floats().first()
        work()
        output("restored").put(input("image"))
    }

    override fun close() = Unit
}

/** The same with a picture of [SIDE] pixels in and out. */
private fun small(real: Artifact): Artifact {
    val shape = listOf(1, SIDE, SIDE, 3)
    return real.copy(
        width = SIDE, height = SIDE,
        inputs = listOf(real.inputs.single().copy(name = "image", shape = shape)),
        outputs = listOf(real.outputs.first().copy(name = "restored", shape = shape)),
    )
}

/** The whole frame, upright, through an artifact onto a view of its size. */
internal fun geometry(artifact: Artifact): FrameGeometry {
    val size = Size(artifact.width, artifact.height)
    return FrameGeometry(size, 0, mirrored = false, size, upright = true, Scale.CROP, size, Scale.FIT)
}

internal fun grey(level: Float): Frame =
    Frame.photo(upload(Picture(SIDE, SIDE, FloatArray(SIDE * SIDE * 3) { level })))
