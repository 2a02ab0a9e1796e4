package afterlens.lens.gl

import afterlens.core.FrameGeometry
import afterlens.core.Size
import android.opengl.GLES30

/** Draws the raw frame left of a divider and the result right of it. */
class Screen(private val target: Int) : AutoCloseable {
    private val program = Program("screen.vert.glsl", "screen.frag.glsl", samplerOf(target))
    private val quad = Quad()

    /**
     * Draws to the bound framebuffer or window.
     *
     * @param result null, or one that is not filled yet, shows the raw frame alone.
     * @param low the output's value for black, [high] for white.
     * @param divider its place in parts of the view's width: at 1 all is raw, at 0 all is restored.
     * @param amount how much of the result's change is shown: 0 is the raw frame, 1 the result.
     * @param source the frame that the result was made of, as a plain texture, to which its change is added; null for
     * [frame].
     */
    fun draw(
        frame: Frame,
        result: ResultTexture?,
        low: Float,
        high: Float,
        geometry: FrameGeometry,
        view: Size,
        divider: Float,
        amount: Float,
        source: Frame? = null,
    ) {
        require(frame.target == target) { "got a frame of texture target ${frame.target}, expected $target" }
        val shown = result?.takeIf { it.isFilled }
        GLES30.glViewport(0, 0, view.width, view.height)
        program.use()
        frame.bind(0)
        shown?.bind(1)
        source?.bind(2)
        program.set("frame", 0)
        program.set("result", 1)
        program.set("source", 2)
        program.set("hasSource", if (source == null) 0 else 1)
        program.set("sensorFromView", geometry.sensorFromView.columns())
        program.set("artifactFromView", geometry.artifactFromView.columns())
        program.set("textureFromSensor", frame.textureFromSensor)
        program.set("low", low)
        program.set("range", high - low)
        program.set("divider", if (shown == null) 1f else divider)
        program.set("amount", amount)
        program.set("viewWidth", view.width.toFloat())
        program.set("halfLine", LINE / 2)
        quad.draw()
    }

    override fun close() {
        quad.close()
        program.close()
    }

    private companion object {
        const val LINE = 2f // pixels
    }
}
