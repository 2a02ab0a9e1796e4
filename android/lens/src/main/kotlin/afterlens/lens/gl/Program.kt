package afterlens.lens.gl

import android.opengl.GLES30

/** A linked pair of shaders from this library's .glsl files. */
internal class Program(vertex: String, fragment: String, preamble: String = "") : AutoCloseable {
    private val id = GLES30.glCreateProgram()
    private val locations = mutableMapOf<String, Int>()

    init {
        val shaders = listOf(
            compile(GLES30.GL_VERTEX_SHADER, source(vertex)),
            compile(GLES30.GL_FRAGMENT_SHADER, preamble + source(fragment)),
        )
        shaders.forEach { GLES30.glAttachShader(id, it) }
        GLES30.glLinkProgram(id)
        shaders.forEach(GLES30::glDeleteShader) // once the program goes
        val linked = IntArray(1)
        GLES30.glGetProgramiv(id, GLES30.GL_LINK_STATUS, linked, 0)
        check(linked[0] != 0) { "$vertex and $fragment: ${GLES30.glGetProgramInfoLog(id)}" }
    }

    fun use() = GLES30.glUseProgram(id)

    fun set(name: String, value: Int) = GLES30.glUniform1i(location(name), value)

    fun set(name: String, value: Float) = GLES30.glUniform1f(location(name), value)

    fun set(name: String, matrix: FloatArray) = GLES30.glUniformMatrix4fv(location(name), 1, false, matrix, 0)

    override fun close() = GLES30.glDeleteProgram(id)

    private fun location(name: String): Int = locations.getOrPut(name) { GLES30.glGetUniformLocation(id, name) }

    private fun source(name: String): String =
        checkNotNull(Program::class.java.getResourceAsStream(name)) { "$name is not packaged" }
            .use { it.readBytes().decodeToString() }

    private fun compile(type: Int, body: String): Int {
        val shader = GLES30.glCreateShader(type)
        GLES30.glShaderSource(shader, "#version 300 es\n$body")
        GLES30.glCompileShader(shader)
        val compiled = IntArray(1)
        GLES30.glGetShaderiv(shader, GLES30.GL_COMPILE_STATUS, compiled, 0)
        check(compiled[0] != 0) { GLES30.glGetShaderInfoLog(shader) }
        return shader
    }
}
