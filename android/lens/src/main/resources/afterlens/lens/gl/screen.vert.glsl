// A window's y points up.
layout(location = 0) in vec2 corner;
out vec2 at; // in the view, y down

void main() {
    gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
    at = vec2(corner.x, 1.0 - corner.y);
}
