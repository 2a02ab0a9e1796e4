precision highp float;

uniform FRAME_SAMPLER frame;
uniform sampler2D result;
uniform mat4 sensorFromView;
uniform mat4 artifactFromView;
uniform mat4 textureFromSensor;
uniform float low;
uniform float range;
uniform float divider; // in parts of the view's width
uniform float viewWidth; // pixels
uniform float halfLine; // pixels
in vec2 at;
layout(location = 0) out vec4 color;

bool inside(vec2 point) {
    return all(greaterThanEqual(point, vec2(0.0))) && all(lessThanEqual(point, vec2(1.0)));
}

void main() {
    vec2 sensor = (sensorFromView * vec4(at, 0.0, 1.0)).xy;
    vec2 artifact = (artifactFromView * vec4(at, 0.0, 1.0)).xy;
    vec3 raw = texture(frame, (textureFromSensor * vec4(sensor, 0.0, 1.0)).xy).rgb;
    vec3 restored = (texture(result, artifact).rgb - low) / range;
    vec3 picture = at.x < divider ? raw : restored;
    if (!inside(sensor) || !inside(artifact)) {
        picture = vec3(0.0);
    }
    if (divider > 0.0 && divider < 1.0 && abs(at.x - divider) * viewWidth < halfLine) {
        picture = vec3(1.0);
    }
    color = vec4(picture, 1.0);
}
