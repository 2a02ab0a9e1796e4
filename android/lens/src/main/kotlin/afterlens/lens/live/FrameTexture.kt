package afterlens.lens.live

import afterlens.core.Size
import afterlens.lens.gl.Frame
import android.graphics.SurfaceTexture
import android.opengl.GLES11Ext
import android.opengl.GLES30
import android.view.Surface

/** The texture that holds a camera's newest frame. It belongs to the OpenGL thread. */
interface FrameTexture : AutoCloseable {
    /** GL_TEXTURE_EXTERNAL_OES, or what else the frames are bound to. */
    val target: Int

    /** Where a camera writes frames of this size; any thread may ask. Whoever asks releases it. */
    fun surface(size: Size): Surface

    /** Takes the newest frame from the camera. */
    fun latest(): Frame
}

/**
 * Of a SurfaceTexture.
 *
 * @param onFrame called on any thread when there is a new frame.
 */
class CameraTexture(onFrame: () -> Unit) : FrameTexture {
    override val target = GLES11Ext.GL_TEXTURE_EXTERNAL_OES
    private val texture = IntArray(1).also { GLES30.glGenTextures(1, it, 0) }
    private val surfaceTexture = SurfaceTexture(texture[0])
    private val transform = FloatArray(16)

    init {
        surfaceTexture.setOnFrameAvailableListener { onFrame() }
    }

    override fun surface(size: Size): Surface {
        surfaceTexture.setDefaultBufferSize(size.width, size.height)
        return Surface(surfaceTexture)
    }

    override fun latest(): Frame {
        surfaceTexture.updateTexImage()
        surfaceTexture.getTransformMatrix(transform)
        return Frame.external(texture[0], transform)
    }

    override fun close() {
        surfaceTexture.setOnFrameAvailableListener(null)
        surfaceTexture.release()
        GLES30.glDeleteTextures(1, texture, 0)
    }
}
