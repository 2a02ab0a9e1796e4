package afterlens.lens.live

import afterlens.core.Size
import afterlens.lens.gl.EglCore
import android.opengl.GLES30

/** Where the picture is shown. It belongs to the OpenGL thread. */
interface Window : AutoCloseable {
    val size: Size

    /** What is drawn from now on goes there. */
    fun bind()

    /** Shows what was drawn; false where the window is gone. */
    fun show(): Boolean
}

/** A view's Surface. */
class EglWindow(private val egl: EglCore, target: Any, override val size: Size) : Window {
    private val surface = egl.window(target)

    override fun bind() {
        egl.makeCurrent(surface)
        GLES30.glBindFramebuffer(GLES30.GL_FRAMEBUFFER, 0)
    }

    override fun show(): Boolean = egl.swap(surface)

    override fun close() = egl.release(surface)
}
