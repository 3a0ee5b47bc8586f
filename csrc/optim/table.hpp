// The optimizers' entries of the backend table.
#pragma once

#include "optim/clip.hpp"
#include "optim/clipped_update.hpp"
#include "optim/global_norm.hpp"
#include "optim/update.hpp"
