package afterlens.lens.gl

import android.opengl.GLES11Ext
import android.opengl.GLES30

/**
 * A camera's frame, or a photo, as a texture.
 *
 * @param target GL_TEXTURE_EXTERNAL_OES for what a SurfaceTexture holds, GL_TEXTURE_2D for a photo.
 * @param textureFromSensor from the sensor's coordinates (y down) to the texture's.
 */
class Frame(val texture: Int, val target: Int, val textureFromSensor: FloatArray) {
    /** Its middle, [across] and [down] as parts of its sides, as a frame of its own. */
    fun middle(across: Float, down: Float): Frame {
        val matrix = textureFromSensor.copyOf()
        for (row in 0..3) {
            val (x, y) = textureFromSensor[row] to textureFromSensor[4 + row]
            matrix[row] = x * across
            matrix[4 + row] = y * down
            matrix[12 + row] += (x * (1 - across) + y * (1 - down)) / 2
        }
        return Frame(texture, target, matrix)
    }

    internal fun bind(unit: Int) {
        GLES30.glActiveTexture(GLES30.GL_TEXTURE0 + unit)
        GLES30.glBindTexture(target, texture)
    }

    companion object {
        /**
         * What a SurfaceTexture holds, with the matrix of its getTransformMatrix.
         *
         * The camera puts its own rotation and mirroring into that matrix, to suit a view that knows no better. Here
         * the geometry does both, so only the part of the buffer that the matrix uses is taken from it.
         */
        fun external(texture: Int, transform: FloatArray) =
            Frame(texture, GLES11Ext.GL_TEXTURE_EXTERNAL_OES, usedPart(transform))

        /** A photo that was uploaded with its top row first. */
        fun photo(texture: Int) = Frame(texture, GLES30.GL_TEXTURE_2D, usedPart(IDENTITY))

        /** The bounding box of the unit square under a matrix, as a matrix. */
        internal fun usedPart(transform: FloatArray): FloatArray {
            val (left, right) = bounds(transform, 0)
            val (top, bottom) = bounds(transform, 1)
            return IDENTITY.copyOf().also {
                it[0] = right - left
                it[5] = bottom - top
                it[12] = left
                it[13] = top
            }
        }

        private fun bounds(matrix: FloatArray, row: Int): Pair<Float, Float> {
            val corners = listOf(0f to 0f, 1f to 0f, 0f to 1f, 1f to 1f)
                .map { (x, y) -> matrix[row] * x + matrix[4 + row] * y + matrix[12 + row] }
            return corners.min() to corners.max()
        }

        private val IDENTITY = FloatArray(16) { if (it % 5 == 0) 1f else 0f }
    }
}

/** The first lines of a fragment shader that samples such frames. */
internal fun samplerOf(target: Int): String = if (target == GLES11Ext.GL_TEXTURE_EXTERNAL_OES) {
    "#extension GL_OES_EGL_image_external_essl3 : require\n#define FRAME_SAMPLER samplerExternalOES\n"
} else {
    "#define FRAME_SAMPLER sampler2D\n"
}
