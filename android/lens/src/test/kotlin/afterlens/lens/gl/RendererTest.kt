package afterlens.lens.gl

import afterlens.core.Affine
import afterlens.core.FrameGeometry
import afterlens.core.Picture
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.core.TensorSpec
import afterlens.lens.Native
import afterlens.lens.PNG
import afterlens.lens.floats
import android.opengl.GLES11Ext
import android.opengl.GLES30
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.float
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** The renderer's own code on Mesa's OpenGL ES, against pictures that Python drew without any OpenGL. */
class RendererTest {
    private val folder = File(System.getProperty("vectors"))
    private val vectors = Json.parseToJsonElement(File(folder, "golden.json").readText()).jsonObject
    private val image = TensorSpec("image", listOf(1, 48, 48, 3), "NHWC", "float32", 0.0, 1.0, "sRGB", "")

    @Test
    fun `the artifact's input and the screen are those of the vectors, from an external and a plain texture`() {
        val divider = vectors.getValue("divider").jsonPrimitive.content.toFloat()
        EglCore().use { egl ->
            println("${GLES30.glGetString(GLES30.GL_RENDERER)}, ${GLES30.glGetString(GLES30.GL_VERSION)}")
            val texture = upload(golden("sensor"))
            val frames = listOf(
                Frame.external(ExternalImage.of(egl, texture), SURFACE_TEXTURE),
                Frame.photo(texture),
            )
            for (frame in frames) {
                for (case in vectors.getValue("frames").jsonArray.map { it.jsonObject }) {
                    val name = case.getValue("name").jsonPrimitive.content
                    val seen = drawInput(frame, case)
                    assertNear(golden("${name}_artifact").values, seen, "$name, the artifact's input")
                    val screen = drawScreen(frame, case, FloatArray(seen.size) { 1 - seen[it] }, divider)
                    assertNear(golden("${name}_view").values, screen, "$name, the screen")
                }
            }
            assertEquals(GLES30.GL_NO_ERROR, GLES30.glGetError())
        }
    }

    @Test
    fun `amounts of the change are those of the vectors`() {
        val divider = vectors.getValue("divider").jsonPrimitive.content.toFloat()
        val frames = vectors.getValue("frames").jsonArray.map { it.jsonObject }.associateBy { it.text("name") }
        EglCore().use { egl ->
            val texture = upload(golden("sensor"))
            val external = Frame.external(ExternalImage.of(egl, texture), SURFACE_TEXTURE)
            val plain = Frame.photo(texture)
            val entries = vectors.getValue("amounts").jsonArray.map { it.jsonObject }
            assertEquals(setOf(0f, 0.5f, 1f), entries.map { it.float("amount") }.toSet())
            for (entry in entries) {
                val case = frames.getValue(entry.text("frame"))
                val seen = drawInput(plain, case)
                val range = entry.getValue("range").jsonArray.map { it.jsonPrimitive.float }
                for ((frame, source) in listOf(plain to null, external to null, external to plain)) {
                    val result = FloatArray(seen.size) { 1 - seen[it] }
                    val screen = drawScreen(frame, case, result, divider, entry.float("amount"), range, source)
                    assertNear(golden("${entry.text("name")}_view").values, screen, entry.text("name"))
                }
            }
            assertEquals(GLES30.GL_NO_ERROR, GLES30.glGetError())
        }
    }

    /** Every second value lies between two levels, so the smallest rounding error would show. */
    @Test
    fun `at all of the change nothing of the frame is left, at none nothing of the result`() {
        EglCore().use {
            val case = vectors.getValue("frames").jsonArray.first().jsonObject
            val halves = FloatArray(48 * 48 * 3) { it % 511 / 1024f }
            val range = listOf(0f, 510 / 1024f)
            val photo = golden("sensor")
            val white = Picture(photo.width, photo.height, FloatArray(photo.values.size) { 1f })
            val black = Picture(photo.width, photo.height, FloatArray(photo.values.size))
            val (onWhite, onBlack) = listOf(white, black).map { picture ->
                drawScreen(Frame.photo(upload(picture)), case, halves, 0f, 1f, range)
            }
            assertArrayEquals(onBlack, onWhite)
            assertTrue(onBlack.toSet().size > 100)
            val frame = Frame.photo(upload(photo))
            val raw = drawScreen(frame, case, result = null, divider = 0f)
            for (value in listOf(0.3f, 1000f, Float.NaN)) {
                val shown = drawScreen(frame, case, FloatArray(48 * 48 * 3) { value }, divider = 0f, amount = 0f)
                assertArrayEquals(raw, shown, "a result of $value")
            }
        }
    }

    @Test
    fun `without a result the raw frame fills the screen`() {
        EglCore().use {
            val frame = Frame.photo(upload(golden("sensor")))
            val case = vectors.getValue("frames").jsonArray.first().jsonObject
            val raw = drawScreen(frame, case, result = null, divider = 0f)
            assertNear(drawScreen(frame, case, FloatArray(48 * 48 * 3), divider = 1f), raw, "raw")
        }
    }

    @Test
    fun `the ring hands out frames in order and refuses more than it holds`() {
        EglCore().use {
            val (red, green) = listOf(floatArrayOf(1f, 0f, 0f), floatArrayOf(0f, 1f, 0f)).map { color ->
                Frame.photo(upload(Picture(2, 2, FloatArray(12) { color[it % 3] })))
            }
            ArtifactInput(Size(4, 4), GLES30.GL_TEXTURE_2D).use { input ->
                val memory = ByteBuffer.allocateDirect(4 * 4 * 12).order(ByteOrder.nativeOrder())
                assertFalse(input.read(image, memory, WAIT_NS))
                repeat(3) {
                    input.draw(red, IDENTITY)
                    input.draw(green, IDENTITY)
                    assertFalse(input.hasRoom)
                    assertThrows<IllegalStateException> { input.draw(red, IDENTITY) }
                    for (color in listOf(floatArrayOf(1f, 0f, 0f), floatArrayOf(0f, 1f, 0f))) {
                        assertTrue(input.read(image, memory, WAIT_NS))
                        assertArrayEquals(FloatArray(48) { color[it % 3] }, memory.floats())
                    }
                }
            }
        }
    }

    @Test
    fun `levels become exactly what Python divides, in the input's range`() {
        val rgba = ByteBuffer.allocateDirect(256 * 4)
        repeat(256) { level -> repeat(4) { rgba.put(level.toByte()) } }
        for ((low, high) in listOf(0f to 1f, -1f to 1f, 0f to 255f)) {
            rgba.rewind()
            val into = ByteBuffer.allocateDirect(256 * 12).order(ByteOrder.nativeOrder())
            unpack(rgba, into, low, high)
            assertArrayEquals(FloatArray(768) { low + it / 3 / 255f * (high - low) }, into.floats())
        }
    }

    @Test
    fun `a camera's own rotation and mirroring are left out of its matrix, its cropping is kept`() {
        // 4 of 1088 rows are padding; turned by 90 degrees and mirrored, as camera services do.
        val used = 1080 / 1088f
        val turned = floatArrayOf(0f, used, 0f, 0f, 1f, 0f, 0f, 0f, 0f, 0f, 1f, 0f, 0f, 0f, 0f, 1f)
        val flipped = floatArrayOf(-1f, 0f, 0f, 0f, 0f, -used, 0f, 0f, 0f, 0f, 1f, 0f, 1f, used, 0f, 1f)
        val expected = floatArrayOf(1f, 0f, 0f, 0f, 0f, used, 0f, 0f, 0f, 0f, 1f, 0f, 0f, 0f, 0f, 1f)
        for (matrix in listOf(turned, flipped)) assertArrayEquals(expected, Frame.usedPart(matrix), 1e-6f)
    }

    private fun drawInput(frame: Frame, case: JsonObject): FloatArray {
        val size = case.size("artifact")
        val memory = ByteBuffer.allocateDirect(size.width * size.height * 12).order(ByteOrder.nativeOrder())
        ArtifactInput(size, frame.target).use { input ->
            input.draw(frame, geometryOf(case).sensorFromArtifact)
            assertTrue(input.read(image, memory, WAIT_NS))
        }
        return memory.floats()
    }

    /** Rows from the top, as a person sees them. */
    private fun drawScreen(
        frame: Frame,
        case: JsonObject,
        result: FloatArray?,
        divider: Float,
        amount: Float = 1f,
        range: List<Float> = listOf(0f, 1f),
        source: Frame? = null,
    ): FloatArray {
        val (view, artifact) = case.size("view") to case.size("artifact")
        val texture = result?.let { values ->
            val memory = ByteBuffer.allocateDirect(values.size * 4).order(ByteOrder.nativeOrder())
            memory.asFloatBuffer().put(values)
            ResultTexture(artifact).apply { upload(memory) }
        }
        val rows = Array(view.height) { FloatArray(view.width * 3) }
        Canvas(view).use { canvas ->
            PixelReader(view).use { reader ->
                Screen(frame.target).use { screen ->
                    canvas.bind()
                    screen.draw(frame, texture, range[0], range[1], geometryOf(case), view, divider, amount, source)
                    reader.request()
                    val read = reader.read(WAIT_NS) { rgba ->
                        for (row in rows.reversed()) {
                            for (x in 0 until view.width) {
                                for (channel in 0..2) row[x * 3 + channel] = (rgba.get().toInt() and 255) / 255f
                                rgba.get()
                            }
                        }
                    }
                    assertTrue(read)
                }
            }
        }
        texture?.close()
        return rows.reduce { all, row -> all + row }
    }

    private fun golden(name: String): Picture = PNG.decode(File(folder, "golden/$name.png").readBytes())

    private fun assertNear(expected: FloatArray, got: FloatArray, what: String) {
        assertEquals(expected.size, got.size, what)
        val errors = got.indices.map { abs(got[it] - expected[it]) * 255 }
        val worst = errors.max()
        assertTrue(worst <= MOST_LEVELS, "$what: $worst levels off, ${errors.count { it > MOST_LEVELS }} values")
    }

    private fun geometryOf(case: JsonObject) = FrameGeometry(
        sensor = case.size("sensor"),
        rotation = case.getValue("rotation").jsonPrimitive.int,
        mirrored = case.getValue("mirrored").jsonPrimitive.boolean,
        artifact = case.size("artifact"),
        upright = case.getValue("artifact_sees").jsonPrimitive.content == "upright",
        artifactScale = Scale.valueOf(case.getValue("artifact_scale").jsonPrimitive.content.uppercase()),
        view = case.size("view"),
        viewScale = Scale.valueOf(case.getValue("view_scale").jsonPrimitive.content.uppercase()),
    )

    private fun JsonObject.text(key: String) = getValue(key).jsonPrimitive.content

    private fun JsonObject.float(key: String) = getValue(key).jsonPrimitive.float

    private fun JsonObject.size(key: String): Size =
        getValue(key).jsonArray.map { it.jsonPrimitive.int }.let { (width, height) -> Size(width, height) }

    companion object {
        const val WAIT_NS = 5_000_000_000
        const val MOST_LEVELS = 2.01f // of 255: weights of the samples have 8 bits on GPUs
        val IDENTITY = Affine.IDENTITY

        /** What a SurfaceTexture says of a buffer without rotation: its first row is the top. */
        val SURFACE_TEXTURE = floatArrayOf(1f, 0f, 0f, 0f, 0f, -1f, 0f, 0f, 0f, 0f, 1f, 0f, 0f, 1f, 0f, 1f)

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
