package afterlens.lens.live

import afterlens.core.Picture
import afterlens.core.Size
import afterlens.lens.gl.Canvas
import afterlens.lens.gl.Frame
import afterlens.lens.gl.PixelReader
import afterlens.lens.gl.upload
import android.opengl.GLES30
import android.view.Surface
import java.util.concurrent.CountDownLatch

/** In the middle of a camera's frame, in the sensor's orientation. */
internal fun framed(inside: Picture): Picture {
    val (width, height) = 1280 to 720
    val values = FloatArray(width * height * 3)
    for (y in 0 until inside.height) {
        val row = ((y + (height - inside.height) / 2) * width + (width - inside.width) / 2) * 3
        inside.values.copyInto(values, row, y * inside.width * 3, (y + 1) * inside.width * 3)
    }
    return Picture(width, height, values)
}

internal class TestCamera(private val picture: Picture) : FrameSource {
    lateinit var wanted: Size
    lateinit var listener: FrameSource.Listener
    private lateinit var texture: PlainTexture
    val started = CountDownLatch(1)

    @Volatile
    var isClosed = false

    override fun start(texture: FrameTexture, wanted: Size, listener: FrameSource.Listener) {
        this.texture = (texture as PlainTexture).also { it.fill(picture) }
        this.wanted = wanted
        this.listener = listener
        listener.started(FrameFormat(Size(picture.width, picture.height), 0, mirrored = false))
        started.countDown()
        deliver()
    }

    fun deliver() {
        started.await()
        texture.onFrame()
    }

    override fun close() {
        isClosed = true
    }
}

/** In the place of a SurfaceTexture, which is Android's. */
internal class PlainTexture(val onFrame: () -> Unit) : FrameTexture {
    override val target = GLES30.GL_TEXTURE_2D
    private var texture = 0

    fun fill(picture: Picture) {
        texture = upload(picture)
    }

    override fun surface(size: Size): Surface = error("no camera asks")

    override fun latest(): Frame = Frame.photo(texture)

    override fun close() = GLES30.glDeleteTextures(1, intArrayOf(texture), 0)
}

/** In the place of a view's Surface; [shown] gets RGB levels, row by row from the top. */
internal class MemoryWindow(override val size: Size, private val shown: (FloatArray) -> Unit) : Window {
    private val canvas = Canvas(size)

    override fun bind() = canvas.bind()

    override fun show(): Boolean {
        canvas.bind()
        PixelReader(size).use { reader ->
            reader.request()
            reader.read(5_000_000_000) { rgba ->
                shown(
                    FloatArray(size.width * size.height * 3) { index ->
                        val (row, column) = size.height - 1 - index / 3 / size.width to index / 3 % size.width
                        (rgba.get((row * size.width + column) * 4 + index % 3).toInt() and 255).toFloat()
                    },
                )
            }
        }
        return true
    }

    override fun close() = canvas.close()
}
