precision highp float;

uniform FRAME_SAMPLER frame;
uniform sampler2D result;
uniform sampler2D source; // the frame that the result was made of
uniform bool hasSource;
uniform mat4 sensorFromView;
uniform mat4 artifactFromView;
uniform mat4 textureFromSensor;
uniform float low;
uniform float range;
uniform float amount; // of the network's change, 0 to 1
uniform float divider; // in parts of the view's width
uniform float viewWidth; // pixels
uniform float halfLine; // pixels
in vec2 at;
layout(location = 0) out vec4 color;

bool inside(vec2 point) {
    return all(greaterThanEqual(point, vec2(0.0))) && all(lessThanEqual(point, vec2(1.0)));
}

// At its ends it is one of the two, bit for bit: without rounding, and whatever the other one holds.
vec3 blended(vec3 raw, vec3 restored) {
    if (amount <= 0.0) {
        return raw;
    }
    if (amount >= 1.0) {
        return restored;
    }
    return raw + amount * (clamp(restored, 0.0, 1.0) - raw);
}

void main() {
    vec2 sensor = (sensorFromView * vec4(at, 0.0, 1.0)).xy;
    vec2 artifact = (artifactFromView * vec4(at, 0.0, 1.0)).xy;
    vec3 raw = texture(frame, (textureFromSensor * vec4(sensor, 0.0, 1.0)).xy).rgb;
    vec3 restored = (texture(result, artifact).rgb - low) / range;
    vec3 changed = hasSource ? texture(source, sensor).rgb : raw;
    vec3 picture = at.x < divider ? raw : blended(changed, restored);
    if (!inside(sensor) || !inside(artifact)) {
        picture = vec3(0.0);
    }
    if (divider > 0.0 && divider < 1.0 && abs(at.x - divider) * viewWidth < halfLine) {
        picture = vec3(1.0);
    }
    color = vec4(picture, 1.0);
}
