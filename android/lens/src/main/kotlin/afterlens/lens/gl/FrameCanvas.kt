package afterlens.lens.gl

import afterlens.core.Affine
import afterlens.core.Size

/** Frames drawn to a texture of another size and orientation; its first row is the top. */
internal class FrameCanvas(size: Size, private val target: Int) : AutoCloseable {
    private val program = Program("offscreen.vert.glsl", "artifact.frag.glsl", samplerOf(target))
    private val quad = Quad()
    private val canvas = Canvas(size)

    /** What was drawn. It stays, where a camera overwrites its own. */
    val drawn = Frame.photo(canvas.texture)

    /** Leaves the canvas bound, so that it can be read. */
    fun draw(frame: Frame, sensorFromCanvas: Affine) {
        require(frame.target == target) { "got a frame of texture target ${frame.target}, expected $target" }
        canvas.bind()
        program.use()
        frame.bind(0)
        program.set("frame", 0)
        program.set("sensorFromArtifact", sensorFromCanvas.columns())
        program.set("textureFromSensor", frame.textureFromSensor)
        quad.draw()
    }

    override fun close() {
        canvas.close()
        quad.close()
        program.close()
    }
}
