#pragma once

#include <node_api.h>

void exportMount(napi_env env, napi_value exports);
