package afterlens.lens

import afterlens.core.FrameGeometry
import afterlens.core.Picture
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.lens.gl.ArtifactInput
import afterlens.lens.gl.EglCore
import afterlens.lens.gl.ExternalImage
import afterlens.lens.gl.Frame
import afterlens.lens.gl.upload
import afterlens.lens.runtime.TfliteRestorer
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/** From an external texture through the renderer into the model, in one process, as the app does it. */
class ChainTest {
    @ParameterizedTest
    @ValueSource(strings = ["udc", "reflection", "deblur"])
    fun `a frame in any orientation comes out as Python's LiteRT restores it`(task: String) {
        val bundle = TestBundles.open(task)
        val artifact = bundle.contract.artifacts.first { it.variant == "float32" }
        val output = artifact.outputs.first()
        val size = Size(artifact.width, artifact.height)
        val golden = artifact.inputs.associateWith { bundle.golden(artifact, "input", it.name) }
        val expected = TestBundles.reference(task, artifact, output.name)
        EglCore().use { egl ->
            ArtifactInput(size, EXTERNAL).use { input ->
                TfliteRestorer.onCpu(bundle, artifact, threads = 1).use { restorer ->
                    for (rotation in listOf(0, 90, 180, 270)) {
                        for (front in listOf(false, true)) {
                            for ((spec, picture) in golden) {
                                val sensor = picture.unturned(rotation)
                                val frame = Frame.external(ExternalImage.of(egl, upload(sensor)), FLIPPED)
                                input.draw(frame, turned(sensor, rotation, front, size).sensorFromArtifact)
                                assertTrue(input.read(spec, restorer.input(spec.name), WAIT_NS))
                            }
                            restorer.run()
                            val error = worst(restorer.output(output.name).floats(), expected)
                            assertTrue(error <= 1e-5f, "$task at $rotation degrees, front $front: $error from Python's LiteRT")
                        }
                    }
                }
            }
        }
    }

    private fun turned(sensor: Picture, rotation: Int, front: Boolean, size: Size) = FrameGeometry(
        Size(sensor.width, sensor.height), rotation, front, size, upright = true, Scale.CROP, size, Scale.FIT,
    )

    /** What a sensor delivers of this picture if it has to be turned by [degrees] clockwise. */
    private fun Picture.unturned(degrees: Int): Picture {
        val (across, down) = if (degrees % 180 == 0) width to height else height to width
        return Picture(across, down, FloatArray(values.size) { index ->
            val (x, y) = index / 3 % across to index / 3 / across
            val (uprightX, uprightY) = when (degrees) {
                0 -> x to y
                90 -> down - 1 - y to x
                180 -> across - 1 - x to down - 1 - y
                else -> y to across - 1 - x
            }
            values[(uprightY * width + uprightX) * 3 + index % 3]
        })
    }

    companion object {
        const val EXTERNAL = 0x8D65 // GL_TEXTURE_EXTERNAL_OES
        const val WAIT_NS = 5_000_000_000
        val FLIPPED = floatArrayOf(1f, 0f, 0f, 0f, 0f, -1f, 0f, 0f, 0f, 0f, 1f, 0f, 0f, 1f, 0f, 1f)

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
