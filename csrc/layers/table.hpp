// The layers' entries of the backend table.
#pragma once

#include "layers/dropout.hpp"
#include "layers/embedding.hpp"
#include "layers/last.hpp"
#include "layers/layer_norm.hpp"
