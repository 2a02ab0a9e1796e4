// The first row of what is read back is the top of the picture.
layout(location = 0) in vec2 corner;
out vec2 at; // in the target, y down

void main() {
    gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
    at = corner;
}
