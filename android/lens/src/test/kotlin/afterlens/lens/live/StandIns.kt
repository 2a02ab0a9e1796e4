package afterlens.lens.live

import afterlens.core.Picture
import afterlens.core.Size
import afterlens.lens.gl.Frame
import afterlens.lens.gl.PixelReader
import afterlens.lens.gl.upload
import android.opengl.GLES30
import android.view.Surface
import java.util.concurrent.CountDownLatch
import sun.misc.Unsafe

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

/** A view's Surface, for which this machine makes a pbuffer (tests/android/native/gl_natives.h). */
internal object TestSurface {
    /** Of the next windows, in pixels; 0 for a Surface that is gone. */
    @JvmStatic
    external fun resize(width: Int, height: Int)

    /** Made without its constructor, which asks for a window system; EGL14 only wants to see the class. */
    fun of(size: Size): Surface {
        resize(size.width, size.height)
        return unsafe.allocateInstance(Surface::class.java) as Surface
    }

    private val unsafe = Unsafe::class.java.getDeclaredField("theUnsafe").apply { isAccessible = true }.get(null) as Unsafe
}

/** A window whose picture is read when it is shown: [shown] gets RGB levels, row by row from the top. */
internal class ReadWindow(private val window: Window, private val shown: (FloatArray) -> Unit) : Window by window {
    override fun show(): Boolean {
        window.bind()
        shown(levels(size))
        return window.show()
    }
}

/** What the framebuffer that is bound holds, as RGB levels from 0 to 255, row by row from the top. */
internal fun levels(size: Size): FloatArray {
    val found = FloatArray(size.width * size.height * 3)
    PixelReader(size).use { reader ->
        reader.request()
        check(
            reader.read(5_000_000_000) { rgba ->
                for (index in found.indices) {
                    val (row, column) = size.height - 1 - index / 3 / size.width to index / 3 % size.width
                    found[index] = (rgba.get((row * size.width + column) * 4 + index % 3).toInt() and 255).toFloat()
                }
            },
        )
    }
    return found
}
